"""Quantization: constants in fewer bits, and the nodes that decode them."""
