"""Layers: whole residual branches that go."""
