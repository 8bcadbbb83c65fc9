"""Rewriting by rules: patterns of operator calls, guards, and a driver that applies them until none fits."""
