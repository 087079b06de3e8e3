"""Claims of Meshkov (2025): norms of the Hessian of a convolutional network."""
