"""Shapes of the interface: pin or name dimensions on request, and correct what the file wrongly declares.

Declared shapes of intermediates and outputs are claims. Where inference from inputs and weights contradicts one, the
claim is corrected; nothing computes with claims, so this is EXACT. Pinned dimensions narrow what the model takes: on
what it still takes it computes what it did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from onnx import TypeProto, ValueInfoProto

from ...errors import UserError, did_you_mean
from ...ir import Graph, Value
from ...ir.analysis.shapes import Shapes as Inferred
from ..manager.base import Effect, Pass
from ..manager.context import Context
from ..manager.options import option

Dim = int | str
_OPEN = ("", "?", "*")


@dataclass(frozen=True)
class Shapes(Pass):
    """Pin or name dynamic dimensions, and correct declared shapes that inference contradicts."""

    name: ClassVar[str] = "shapes"
    effect: ClassVar[Effect] = Effect.EXACT
    uses_blas: ClassVar[bool] = False
    keeps_interface: ClassVar[bool] = False

    freeze: tuple[str, ...] = option(
        (), "sizes to pin: INPUT=1x3x?x320 (? stays open), INPUT.AXIS=3, or SYMBOL=16 wherever it stands"
    )
    name_: tuple[str, ...] = option((), "names for dimensions: INPUT.AXIS=batch, or OLD=batch")

    def run(self, graph: Graph, ctx: Context) -> None:
        """Pin, name, then correct claims by what can be inferred now."""
        interface = _Interface(graph, ctx)
        for text in self.freeze:
            interface.freeze(text)
        for text in self.name_:
            interface.rename(text)
        interface.write()
        corrected = _correct(ctx)
        if not interface.changed and not corrected:
            ctx.remarks.missed("model", "nothing was to be pinned, and no declared shape is contradicted")


class _Interface:
    """The dimensions of the inputs of the main graph, and what becomes of them."""

    def __init__(self, graph: Graph, ctx: Context) -> None:
        self.graph = graph
        self.ctx = ctx
        self.inputs = {value.name: value for value in graph.inputs}
        self.dims = {value.name: _dims(value.type) for value in graph.inputs}
        self.symbols: dict[str, Dim] = {}
        """What symbols became."""
        self.changed = False

    def freeze(self, text: str) -> None:
        """One pin."""
        subject, sizes = _split(text, "freeze")
        if subject in self.inputs:
            parts = sizes.split("x")
            self._has_rank(subject, len(parts), text)
            for axis, part in enumerate(parts):
                if part not in _OPEN:
                    self._set(subject, axis, _size(part, text), text)
        else:
            self._is_known(subject, text)
            self._set_one(subject, _size(sizes, text), text)

    def rename(self, text: str) -> None:
        """One name."""
        subject, name = _split(text, "name")
        if name.isdigit() or name in _OPEN:
            raise UserError(f"name={text}: {name!r} is no name; freeze=[{text}] pins a size")
        self._set_one(subject, name, text)

    def _set_one(self, subject: str, dim: Dim, text: str) -> None:
        """Set the dimension `INPUT.AXIS`, or a symbol."""
        if any(subject == symbol for dims in self.dims.values() for symbol in dims or ()):
            self._replace(subject, dim, text)
            return
        self._is_known(subject, text)
        owner, _, axis = subject.rpartition(".")
        self._has_rank(owner, int(axis) + 1, text, at_least=True)
        self._set(owner, int(axis), dim, text)

    def _is_known(self, subject: str, text: str) -> None:
        """Whether there is a symbol, or a dimension `INPUT.AXIS`, of that name."""
        symbols = [dim for dims in self.dims.values() for dim in dims or () if isinstance(dim, str)]
        owner, _, axis = subject.rpartition(".")
        if subject not in symbols and (owner not in self.inputs or not axis.isdigit()):
            near = did_you_mean(subject, [*self.inputs, *symbols])
            raise UserError(f"{text}: no input and no dimension is called {subject!r}{near}")

    def _has_rank(self, name: str, rank: int, text: str, *, at_least: bool = False) -> None:
        dims = self.dims[name]
        if dims is None and not at_least and self._is_tensor(name):
            dims = self.dims[name] = [None] * rank
        if dims is None or (len(dims) < rank if at_least else len(dims) != rank):
            found = "no known rank" if dims is None else f"rank {len(dims)}"
            raise UserError(f"{text}: input {name!r} has {found}")

    def _is_tensor(self, name: str) -> bool:
        type_ = self.inputs[name].type
        return type_ is not None and type_.HasField("tensor_type")

    def _set(self, name: str, axis: int, dim: Dim, text: str) -> None:
        dims = self.dims[name]
        assert dims is not None
        old = dims[axis]
        if isinstance(old, str):
            self._replace(old, dim, text)
        elif old is None:
            dims[axis] = dim
        elif old != dim:
            raise UserError(f"{text}: dimension {axis} of input {name!r} is {old} already")

    def _replace(self, symbol: str, dim: Dim, text: str) -> None:
        """A symbol is one size wherever it stands."""
        for dims in self.dims.values():
            if dims is not None:
                dims[:] = [dim if one == symbol else one for one in dims]
        self.symbols = {old: dim if now == symbol else now for old, now in self.symbols.items()} | {symbol: dim}

    def write(self) -> None:
        """Put the dimensions into the model, the claims of which speak of the same symbols."""
        for name, dims in self.dims.items():
            value = self.inputs[name]
            if dims is None or dims == _dims(value.type):
                continue
            _fits_default(value, dims)
            info = _with_dims(value._info or ValueInfoProto(name=name), dims)
            with self.ctx.rewriter.apply("interface"):
                self.ctx.rewriter.set_info(value, info)
            self.changed = True
            shown = "x".join("?" if dim is None else str(dim) for dim in dims)
            self.ctx.remarks.applied(name, f"its shape is now {shown}", rule="interface")
        if self.symbols:
            _rewrite_claims(self.ctx, "symbols", self._translated)

    def _translated(self, value: Value | None, info: ValueInfoProto) -> ValueInfoProto | None:
        dims = _dims(info.type)
        if dims is None or not any(dim in self.symbols for dim in dims):
            return info
        return _with_dims(info, [self.symbols.get(dim, dim) if isinstance(dim, str) else dim for dim in dims])


def _correct(ctx: Context) -> int:
    """Correct the claims that inference contradicts; returns how many."""
    inferred = ctx.shapes()
    if inferred.problem:
        ctx.remarks.missed("model", inferred.problem)
        return 0
    return _rewrite_claims(ctx, "claims", lambda value, info: _corrected(value, info, inferred))


def _corrected(value: Value | None, info: ValueInfoProto, inferred: Inferred) -> ValueInfoProto | None:
    """What may be said of a value: `info` itself if nothing speaks against it."""
    if value is None or not info.type.HasField("tensor_type"):
        return info
    known, dtype, claimed = inferred.shape(value), inferred.dtype(value), info.type.tensor_type.elem_type
    shape = info.type.tensor_type.shape
    made = ValueInfoProto()
    made.CopyFrom(info)
    if dtype is not None and dtype != claimed:
        made.type.tensor_type.elem_type = dtype
    if not info.type.tensor_type.HasField("shape"):
        return made if made != info else info
    if known is not None and len(known) != len(shape.dim):
        return _with_dims(made, [dim if isinstance(dim, int) else None for dim in known])
    for axis, dim in enumerate(made.type.tensor_type.shape.dim):
        found = None if known is None else known[axis]
        if isinstance(found, int) and (dim.HasField("dim_value") or not dim.dim_param or found):
            if dim.dim_value != found or not dim.HasField("dim_value"):
                dim.dim_value = found
        elif dim.HasField("dim_value") and dim.dim_value < 0:
            dim.ClearField("dim_value")
    return made if made != info else info


Change = Callable[[Value | None, ValueInfoProto], ValueInfoProto | None]


def _rewrite_claims(ctx: Context, rule: str, change: Change) -> int:
    """Replace what is declared of outputs and intermediates, in all graphs; returns how much was."""
    rw, count = ctx.rewriter, 0
    for graph in ctx.model.walk_graphs():
        for slot, (value, info) in enumerate(zip(graph.outputs, graph.output_infos, strict=False)):
            made = change(value, info)
            if made is not None and made is not info:
                with rw.apply(rule):
                    rw.set_output_info(graph, slot, made)
                count += 1
                ctx.remarks.applied(value.name, f"{_text(info)} was declared, it is {_text(made)}", rule=rule)
        for value, info in _claims(graph):
            made = change(value, info)
            if made is not info:
                with rw.apply(rule):
                    rw.set_claim(graph, value, made)
                count += 1
    return count


def _claims(graph: Graph) -> Iterator[tuple[Value, ValueInfoProto]]:
    for value, info in graph.value_infos:
        if value is not None and value.graph is not None:
            yield value, info


def _dims(type_: TypeProto | None) -> list[Dim | None] | None:
    """The dimensions of a tensor type, None for what is open; None if there is no shape."""
    if type_ is None or not type_.HasField("tensor_type") or not type_.tensor_type.HasField("shape"):
        return None
    return [
        (dim.dim_value if dim.dim_value > 0 else None)
        if dim.HasField("dim_value")
        else (None if dim.dim_param in _OPEN else dim.dim_param)
        for dim in type_.tensor_type.shape.dim
    ]


def _with_dims(info: ValueInfoProto, dims: Iterable[Dim | None]) -> ValueInfoProto:
    made = ValueInfoProto()
    made.CopyFrom(info)
    shape = made.type.tensor_type.shape
    old = list(shape.dim)
    notes = [dim.denotation for dim in old]
    del shape.dim[:]
    shape.SetInParent()
    for axis, dim in enumerate(dims):
        one = shape.dim.add(denotation=notes[axis]) if axis < len(notes) and notes[axis] else shape.dim.add()
        if isinstance(dim, int):
            one.dim_value = dim
        elif dim is not None:
            one.dim_param = dim
    return made


def _fits_default(value: Value, dims: list[Dim | None]) -> None:
    if value.tensor is not None and any(
        isinstance(dim, int) and dim != size for dim, size in zip(dims, value.tensor.shape, strict=False)
    ):
        raise UserError(f"input {value.name!r} has a default of another shape: {list(value.tensor.shape)}")


def _split(text: str, key: str) -> tuple[str, str]:
    subject, _, rest = text.rpartition("=")
    if not subject or not rest:
        example = "images=1x3x640x640" if key == "freeze" else "images.0=batch"
        raise UserError(f"shapes{{{key}=[{text}]}}: expected NAME=VALUE, for example {example}")
    return subject, rest


def _size(text: str, whole: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise UserError(f"{whole}: {text!r} is no size")
    return int(text)


def _text(info: ValueInfoProto) -> str:
    dims = _dims(info.type)
    return "no shape" if dims is None else "x".join("?" if dim is None else str(dim) for dim in dims) or "scalar"
