"""Channels and heads: which go, how they are removed, and how the rest is repaired."""
