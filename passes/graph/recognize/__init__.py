"""Decomposed patterns become the standard operators that they spell, or shorter spellings; and views of them."""
