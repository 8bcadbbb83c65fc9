"""Drawn models take as long as they take."""

from hypothesis import settings

settings.register_profile("plugin", deadline=None, derandomize=True, database=None, max_examples=40)
settings.load_profile("plugin")
