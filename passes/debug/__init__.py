"""Debugging: slices that show a fault, the guilty pass and rewrite, and folders that replay a failure."""
