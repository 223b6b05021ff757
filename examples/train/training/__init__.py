"""A line fitted by gradient descent."""
