"""What lies between two points of parameters: paths, the loss along them, and units put in the same order first."""
