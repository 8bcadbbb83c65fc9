"""Profiles of targets: what a runtime computes in integers, as data."""
