"""Claims of Rahimi (2025): products with the inverse Hessian."""
