"""Where the axes of a constant go while operators only move its elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from ...ir import Node
from ...ir.dtypes import bits_of, is_float

Axes = tuple[int | None, ...]


@dataclass(frozen=True)
class Layout:
    """A value that holds elements of a constant: for each of its axes, which axis of the constant it runs along.

    None is an axis that stands for none or for several; `axes` itself is None where the rank is unknown. `dims` are
    lengths, None where unknown. `whole` says that every element of the constant is there once, with its exact value.
    """

    axes: Axes | None
    dims: Axes | None
    dtype: int
    whole: bool = True

    @classmethod
    def of(cls, shape: Sequence[int], dtype: int) -> Layout:
        """The constant itself."""
        return cls(tuple(range(len(shape))), tuple(shape), dtype)

    @property
    def rank(self) -> int | None:
        """The number of axes, None if unknown."""
        return None if self.axes is None else len(self.axes)

    def partial(self) -> Layout:
        """Some elements, others with them, or copies: axes keep their meaning, lengths are lost."""
        dims = None if self.axes is None else (None,) * len(self.axes)
        return Layout(self.axes, dims, self.dtype, False)

    def unknown(self) -> Layout:
        """Elements in no known order."""
        return Layout(None, None, self.dtype, False)


Mover = Callable[[Node, int, Layout], "Layout | None"]


def moved(node: Node, slot: int, layout: Layout) -> Layout | None:
    """The layout of the outputs of `node`, which reads a value of `layout` at `slot`; None if it does not just move."""
    mover = MOVERS.get(node.op_type) if node.domain == "" else None
    if mover is None or any(attribute.ref for attribute in node.attributes.values()):
        return None
    return mover(node, slot, layout)


def _identity(node: Node, slot: int, layout: Layout) -> Layout | None:
    return layout


def _cast(node: Node, slot: int, layout: Layout) -> Layout | None:
    """Between floating-point types; into a wider one nothing is lost."""
    to = node.attr("to")
    if not isinstance(to, int) or not is_float(to):
        return None
    wider = to == layout.dtype or bits_of(to) > bits_of(layout.dtype)
    return Layout(layout.axes, layout.dims, to, layout.whole and wider)


def _transpose(node: Node, slot: int, layout: Layout) -> Layout | None:
    if layout.axes is None or layout.dims is None:
        return layout
    perm = node.attr("perm", list(range(len(layout.axes)))[::-1])
    if sorted(perm) != list(range(len(layout.axes))):
        return None
    axes, dims = layout.axes, layout.dims
    return Layout(tuple(axes[i] for i in perm), tuple(dims[i] for i in perm), layout.dtype, layout.whole)


def _reshape(node: Node, slot: int, layout: Layout) -> Layout | None:
    if slot:
        return None
    target = _numbers(node, "shape")
    if target is None:
        return layout.unknown()
    if not node.attr("allowzero", 0) and layout.dims is not None:
        zeros = [layout.dims[i] if n == 0 and i < len(layout.dims) else n for i, n in enumerate(target)]
    else:
        zeros = list(target)
    return _regroup(layout, zeros)


def _flatten(node: Node, slot: int, layout: Layout) -> Layout | None:
    if layout.dims is None or None in layout.dims:
        return layout.unknown()
    axis = node.attr("axis", 1)
    axis += len(layout.dims) if axis < 0 else 0
    dims = [n for n in layout.dims if n is not None]
    return _regroup(layout, [prod(dims[:axis]), prod(dims[axis:])])


def _squeeze(node: Node, slot: int, layout: Layout) -> Layout | None:
    if slot:
        return None
    if layout.axes is None or layout.dims is None:
        return layout
    gone = _numbers(node, "axes")
    if gone is None and (node.input(1) is not None or None in layout.dims):
        return layout.unknown()
    rank = len(layout.axes)
    drop = {i for i, n in enumerate(layout.dims) if n == 1} if gone is None else {axis % rank for axis in gone}
    keep = [i for i in range(rank) if i not in drop]
    axes, dims = layout.axes, layout.dims
    return Layout(tuple(axes[i] for i in keep), tuple(dims[i] for i in keep), layout.dtype, layout.whole)


def _unsqueeze(node: Node, slot: int, layout: Layout) -> Layout | None:
    if slot:
        return None
    made = _numbers(node, "axes")
    if layout.axes is None or layout.dims is None or made is None:
        return layout.unknown()
    rank = len(layout.axes) + len(made)
    new = {axis % rank for axis in made}
    old = iter(zip(layout.axes, layout.dims, strict=True))
    pairs = [(None, 1) if i in new else next(old) for i in range(rank)]
    return Layout(tuple(axis for axis, _ in pairs), tuple(n for _, n in pairs), layout.dtype, layout.whole)


def _part(node: Node, slot: int, layout: Layout) -> Layout | None:
    return None if slot else layout.partial()


def _join(node: Node, slot: int, layout: Layout) -> Layout | None:
    return layout.partial()


def _expand(node: Node, slot: int, layout: Layout) -> Layout | None:
    return None if slot else layout.unknown()


MOVERS: dict[str, Mover] = {
    "Identity": _identity,
    "Cast": _cast,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _part,
    "Split": _part,
    "Concat": _join,
    "Expand": _expand,
    "Tile": _expand,
}
"""Operators whose outputs hold elements of an input, and nothing computed from them."""


def _numbers(node: Node, name: str) -> list[int] | None:
    """What newer opsets read from input 1 and older ones from an attribute; None if absent or not constant."""
    value = node.input(1)
    if value is None:
        attribute = node.attributes.get(name)
        return None if attribute is None or attribute.ref else [int(n) for n in attribute.value]
    return None if value.const is None else [int(n) for n in value.const.numpy().reshape(-1)]


def _regroup(layout: Layout, target: Sequence[int | None]) -> Layout:
    """Reshape: an axis keeps its meaning if the same elements lie before it and it has the same length."""
    if layout.dims is None or layout.axes is None or None in layout.dims or None in target:
        return Layout((None,) * len(target), (None,) * len(target), layout.dtype, False)
    source = [n for n in layout.dims if n is not None]
    dims = [n for n in target if n is not None]
    if -1 in dims:
        rest = prod(n for n in dims if n != -1)
        dims[dims.index(-1)] = prod(source) // rest if rest else 0
    starts = {(prod(source[:i]), n): layout.axes[i] for i, n in enumerate(source) if n > 1}
    axes = tuple(starts.get((prod(dims[:i]), n)) for i, n in enumerate(dims))
    return Layout(axes, tuple(dims), layout.dtype, layout.whole)
