"""The loss as a function of one flat vector, checked before anything is built on it."""
