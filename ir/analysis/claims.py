"""Claims: what a file declares of its outputs, and inference from inputs and weights contradicts.

Nothing computes with claims, but runtimes warn of wrong ones, and people believe them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..model import Model
from .shapes import Shape, Shapes, shape_of


class WrongClaim(NamedTuple):
    """An output, the shape that is declared of it, and that which is inferred, in words: `[n,5]`."""

    output: str
    declared: str
    inferred: str


def wrong_outputs(model: Model, inferred: Shapes) -> Iterator[WrongClaim]:
    """The outputs that are declared with another rank or another number than is inferred."""
    for value, info in zip(model.graph.outputs, model.graph.output_infos, strict=True):
        declared, known = shape_of(info.type), inferred.shape(value)
        if declared is not None and known is not None and _contradict(declared, known):
            yield WrongClaim(value.name, _words(declared), _words(known))


def _contradict(declared: Shape, known: Shape) -> bool:
    """A 0 or a negative number is what exporters write for an open size."""
    if len(declared) != len(known):
        return True
    pairs = [(a, b) for a, b in zip(declared, known, strict=True) if isinstance(a, int) and isinstance(b, int)]
    return any(a > 0 and a != b for a, b in pairs)


def _words(shape: Shape) -> str:
    return f"[{','.join('?' if dim is None else str(dim) for dim in shape)}]"
