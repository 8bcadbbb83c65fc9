"""Low rank: weights as products of thin factors."""
