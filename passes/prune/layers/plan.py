"""What is asked of layers."""

from __future__ import annotations

from dataclasses import dataclass

CRITERIA = ("output-error", "mean-activation", "l1", "l2", "random")
DATA_CRITERIA = ("output-error", "mean-activation")


@dataclass(frozen=True)
class Plan:
    """Goals, of which at least one is given, and how to reach them."""

    criterion: str
    """One of `CRITERIA`."""
    sparsity: float | None
    macs: float | None
    bytes_: float | None
    error: float | None
    repair: bool
    ridge: float | None
    exclude: tuple[str, ...]
