"""Put one value in the place of another, under the same name."""

from __future__ import annotations

from ...ir import Graph, Rewriter, Value


def take_over(rewriter: Rewriter, old: Value, new: Value) -> None:
    """Let every reader of `old` read `new`, which takes its name."""
    is_output = any(isinstance(use.user, Graph) and use.user.owner is not None for use in old.uses)
    rewriter.replace(old, new)
    if not is_output:  # else it has the name already, or an Identity behind it has
        rewriter.swap_names(old, new)
