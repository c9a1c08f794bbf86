"""Optimisation dynamics: what gradients and updates do during training, measured on a fixed probe set."""
