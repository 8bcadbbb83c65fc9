"""Floating point in 16 bits: constants, and graphs that compute in it."""
