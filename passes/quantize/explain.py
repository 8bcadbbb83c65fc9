"""Why constants stay as they are: in the ledger of weights, and as remarks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ...ir import Graph, Tensor, Value
from ..manager.context import Context
from ..manager.weights import ACCOUNTED_FROM
from .plan import Refusal

Held = tuple[Graph, Value, Tensor]


def explain_kept(
    ctx: Context,
    decisions: Iterable[tuple[Held, object]],
    exclude: Sequence[str],
    at_stake: Callable[[Tensor], int],
    candidates: str,
) -> None:
    """Say why each refused constant stays, and which globs of `exclude` match none of the `candidates`.

    `at_stake` gives the bytes that a constant would have saved.
    """
    unmatched = dict.fromkeys(exclude)
    for held, decision in decisions:
        if isinstance(decision, Refusal):
            _refuse(ctx, held, decision, at_stake)
            for pattern in decision.patterns:
                unmatched.pop(pattern, None)
    for pattern in unmatched:
        ctx.remarks.missed("exclude", f"{pattern!r} matches no {candidates}", rule="exclude")


def _refuse(ctx: Context, held: Held, refusal: Refusal, at_stake: Callable[[Tensor], int]) -> None:
    graph, value, tensor = held
    if tensor.nbytes < ACCOUNTED_FROM:
        return
    ctx.weights.kept(tensor, refusal.reason)
    if refusal.is_weight:
        ctx.remarks.missed(
            f"{graph.label}/{value.name}",
            str(refusal.reason),
            rule=refusal.reason.name.lower(),
            suggestion=refusal.hint,
            bytes_at_stake=at_stake(tensor),
        )
