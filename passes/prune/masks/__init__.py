"""Masks: single weights, weights in patterns and blocks set to zero, and the rest adjusted."""
