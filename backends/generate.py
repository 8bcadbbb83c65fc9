"""Inputs made up for a model: of its types, in several sizes where sizes are free, integers where they make sense.

A session tries every feed, and what it refuses is discarded and counted, so that a feed that comes out is one that the
model runs. Sizes are searched from a fixed ladder, first all free ones alike and then one at a time; the first sizes
that work are then varied. Symbols that inputs share get one size. Where the graph does not say which integers it takes
(see `domains`), 8-bit inputs get the whole range of their type (images) and wider ones turn by turn 0 and 1 (masks)
and 0 to 100.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto, TypeProto

from ..errors import ExecutionError
from ..ir.dtypes import numpy_dtype
from .domains import Choice, Domain, Index, Size, integer_domains
from .interface import Array, Feed, Pins, Refusals, dims_of
from .sizes import Key, Shapes, Sizes, SizeSearch, resolve

if TYPE_CHECKING:
    from ..ir.backend import Port, Session

_RANKS = (2, 4, 3, 1, 0)
"""Tried in this order for inputs of unknown rank."""
_MAX_TRIES = 100
_MAX_FAILURES = 8
"""Feeds refused in a row, at sizes that worked before, after which no more are made."""
_MAX_SIZES = 4
KINDS = ("normal", "uniform", "wide", "constant", "zeros")
"""How floating-point inputs are drawn, one kind a feed, in turn."""
PLAIN_KINDS = ("uniform", "normal")
"""The kinds that a model may have been made for."""
_WORDS = ("", "a", "onnx", "0", "1.5", "two words")
_NO_PINS = Pins()


@dataclass(frozen=True)
class GeneratedFeeds:
    """Feeds that the model runs, and why others were discarded."""

    feeds: list[Feed]
    reasons: dict[str, int]
    """The executor's first words about a refused feed, and how often they were said."""

    @property
    def discarded(self) -> int:
        """Feeds that the model refused."""
        return sum(self.reasons.values())


def generate_feeds(
    model: ModelProto,
    session: Session,
    *,
    n: int,
    seed: int,
    pins: Pins = _NO_PINS,
    kinds: Sequence[str] = KINDS,
) -> GeneratedFeeds:
    """Make up to `n` feeds that `session`, which runs `model`, accepts; fewer, or none, if it refuses too many.

    `model` may be stripped of its weights. Inputs with a default are left to it unless pinned. The same model, seed and
    pins give the same feeds. Raises UserError if a pin does not fit the model.
    """
    pins.check(session.inputs)
    pinned = pins.shapes.keys() | pins.values.keys()
    ports = [port for port in session.inputs if not port.optional or port.name in pinned]
    for port in ports:
        if port.dtype is None and (why := _not_generated(port.name, model)):
            return GeneratedFeeds([], {why: 1})
    trials = _Trials(session, _Draw(model, ports, pins, seed, kinds))
    for rank in _RANKS if any(_is_unranked(port, pins) for port in ports) else (0,):
        shapes = {port.name: _shape(port, pins, rank) for port in ports if port.dtype is not None}
        search = SizeSearch(shapes, _declared_empty(ports))
        sizes = _find_sizes(trials, search, shapes, min(n, _MAX_SIZES))
        if sizes:
            trials.fill(shapes, sizes, n)
            break
    return GeneratedFeeds(trials.feeds[:n], trials.refused.counts)


@dataclass
class _Trials:
    """Feeds tried so far."""

    session: Session
    draw: _Draw
    feeds: list[Feed] = field(default_factory=list)
    refused: Refusals = field(default_factory=Refusals)
    tried: int = 0

    def accepts(self, shapes: Shapes, sizes: Sizes, turn: int) -> bool:
        """Draw a feed of these sizes, run it, keep it if it runs."""
        feed = self.draw.feed(shapes, sizes, turn, self.tried)
        self.tried += 1
        try:
            self.session.run(feed)
        except ExecutionError as error:
            self.refused.add(error)
            return False
        self.feeds.append(feed)
        return True

    def fill(self, shapes: Shapes, sizes: Sequence[Sizes], n: int) -> None:
        """Go round the sizes that work until there are `n` feeds, or the model refuses too many in a row."""
        failures = 0
        for turn, each in enumerate(itertools.cycle(sizes), start=len(self.feeds)):
            if len(self.feeds) >= n or failures >= _MAX_FAILURES:
                return
            failures = 0 if self.accepts(shapes, each, turn) else failures + 1


def _find_sizes(trials: _Trials, search: SizeSearch, shapes: Shapes, wanted: int) -> list[Sizes]:
    """Up to `wanted` different sizes that the model runs; none if it refuses all that are tried."""
    if not search.is_free:
        return [{}] if any(trials.accepts(shapes, {}, turn) for turn in range(_MAX_FAILURES)) else []
    found: list[Sizes] = []
    for turn, sizes in enumerate(itertools.islice(search.candidates(), _MAX_TRIES)):
        if trials.accepts(shapes, sizes, turn):
            found.append(sizes)
            break
    for sizes in search.variations(found[0]) if found else ():
        if len(found) >= wanted:
            break
        if trials.accepts(shapes, sizes, len(trials.feeds)):
            found.append(sizes)
    return found


def _not_generated(name: str, model: ModelProto) -> str | None:
    """Why no value can be made up for an input that is no tensor; None if one can."""
    kind = next((info.type for info in model.graph.input if info.name == name), TypeProto())
    while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
        kind = getattr(kind, str(kind.WhichOneof("value"))).elem_type
    if kind.HasField("tensor_type"):
        return None
    return f"no values are made up for input {name!r}, which is no tensor, sequence or optional: give it as data"


def _is_unranked(port: Port, pins: Pins) -> bool:
    return port.dtype is not None and port.shape is None and port.name not in pins.shapes


def _shape(port: Port, pins: Pins, rank: int) -> tuple[Size, ...]:
    """The shape of a port with its free axes identified; `rank` stands in for an unknown one."""
    dims = pins.shapes.get(port.name, dims_of(port))
    if dims is None:
        dims = (None,) * rank
    return tuple((port.name, axis) if d is None else d for axis, d in enumerate(dims))


def _declared_empty(ports: Sequence[Port]) -> set[Key]:
    """Axes declared with size 0: some exporters mean "unknown", some mean it."""
    return {(port.name, axis) for port in ports for axis, d in enumerate(port.shape or ()) if d == 0}


class _Draw:
    """Draws values for all inputs of a model."""

    def __init__(self, model: ModelProto, ports: Sequence[Port], pins: Pins, seed: int, kinds: Sequence[str]) -> None:
        self.kinds = kinds
        self.ports = ports
        self.pins = pins
        self.seed = seed
        self.types = {info.name: info.type for info in model.graph.input}
        integers = [p.name for p in ports if p.dtype is not None and _is_integer(p.dtype)]
        self.domains = integer_domains(model, integers)

    def feed(self, shapes: Shapes, sizes: Sizes, turn: int, draw: int) -> Feed:
        """A feed of these sizes; `turn` chooses the kind of values, `draw` numbers the random draws."""
        return {port.name: self._input(port, shapes, sizes, turn, draw) for port in self.ports}

    def _input(self, port: Port, shapes: Shapes, sizes: Sizes, turn: int, draw: int) -> Any:
        rng = np.random.default_rng([self.seed, draw, zlib.crc32(port.name.encode())])
        if port.dtype is None:
            return _of_type(self.types[port.name], sizes, turn, rng)
        shape = tuple(resolve(size, sizes) for size in shapes[port.name])
        value = self.pins.scalar(port)
        if value is not None:
            return np.full(shape, value, dtype=value.dtype)
        return _array(port.dtype, shape, self.domains.get(port.name, ()), sizes, turn, self.kinds, rng)


def _is_integer(dtype: int) -> bool:
    return "int" in numpy_dtype(dtype).name


def _array(
    dtype: int,
    shape: tuple[int, ...],
    domains: Sequence[Domain],
    sizes: Sizes,
    turn: int,
    kinds: Sequence[str],
    rng: np.random.Generator,
) -> Array:
    to = numpy_dtype(dtype)
    if to.kind == "O":
        return np.asarray(np.array(_WORDS, dtype=object)[rng.integers(len(_WORDS), size=shape)], dtype=object)
    if to.kind == "b":
        return np.asarray(rng.integers(2, size=shape), dtype=bool)
    if _is_integer(dtype):
        return np.asarray(_integers(to, shape, domains, sizes, turn, rng)).astype(to)
    if to.kind == "c":
        return np.asarray(rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(to)
    return np.asarray(_floats(shape, kinds[turn % len(kinds)], rng)).astype(to)


def _floats(shape: tuple[int, ...], kind: str, rng: np.random.Generator) -> Any:
    if kind == "uniform":
        return rng.random(shape)
    if kind == "constant":
        return np.full(shape, rng.standard_normal())
    if kind == "zeros":
        return np.zeros(shape)
    return rng.standard_normal(shape) * (8 if kind == "wide" else 1)


def _integers(
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    domains: Sequence[Domain],
    sizes: Sizes,
    turn: int,
    rng: np.random.Generator,
) -> Any:
    least, most = _range_of(dtype)
    values = [v for d in domains if isinstance(d, Choice) for v in d.values if least <= v <= most]
    if values:
        single = shape in ((), (1,))
        return np.full(shape, values[turn % len(values)]) if single else rng.choice(values, size=shape)
    ranges = [(d.low, d.low + _extent(d.size, sizes)) for d in domains if isinstance(d, Index)]
    if ranges:
        low, high = max(least, *(r[0] for r in ranges)), min(most + 1, *(r[1] for r in ranges))
        return rng.integers(low, max(high, low + 1), size=shape)
    low, most = (least, most) if most <= 255 else (0, 1 if turn % 2 == 0 else 100)
    return rng.integers(low, most, size=shape, endpoint=True)


def _range_of(dtype: np.dtype[Any]) -> tuple[int, int]:
    """The least and the greatest value of an integer type, narrow ones included."""
    bits = int(dtype.name.lstrip("uint"))
    return (0, 2**bits - 1) if dtype.name.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _extent(size: Size, sizes: Sizes) -> int:
    """Positions on an axis; 1, which is always safe, if its size is unknown."""
    known = isinstance(size, int) or size in sizes
    return max(resolve(size, sizes), 1) if known else 1


def _of_type(kind: TypeProto, sizes: Sizes, turn: int, rng: np.random.Generator) -> Any:
    """A value of a type that is no tensor: two elements a sequence, an absent optional every other turn."""
    if kind.HasField("sequence_type"):
        return [_of_type(kind.sequence_type.elem_type, sizes, turn, rng) for _ in range(2)]
    if kind.HasField("optional_type"):
        return None if turn % 2 else _of_type(kind.optional_type.elem_type, sizes, turn, rng)
    dims = [d.dim_value if d.dim_value > 0 else d.dim_param or None for d in kind.tensor_type.shape.dim]
    return _array(kind.tensor_type.elem_type, tuple(resolve(d, sizes) for d in dims), (), sizes, turn, KINDS, rng)
