"""Pruning: weights set to zero, and channels and heads that are removed."""
