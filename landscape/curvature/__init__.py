"""The Hessian as an operator: products of functions of a vector, by several strategies. Knows functions and tensors.

`native` and its helpers are the exception: they know one model and one loss, because their kernel is made for these.
"""
