"""The Hessian as an operator: products of functions of a vector, by several strategies. Knows functions and tensors."""
