"""Equalize: rescale channels between what makes them and what reads them."""
