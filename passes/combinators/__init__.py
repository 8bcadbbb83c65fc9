"""Combinators: passes that run other passes."""
