"""Dynamic quantization: activations in the ranges that they have in each run."""
