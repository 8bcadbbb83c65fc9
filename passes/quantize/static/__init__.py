"""Static quantization: activations in the ranges that they have on sample data."""
