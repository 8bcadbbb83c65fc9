"""Repair: what calibration data can mend after weights and activations were quantized."""
