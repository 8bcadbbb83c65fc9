"""Calibration: what activations are on sample data, observed in a stream."""
