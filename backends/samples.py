"""Sample data: the feeds that `--data` names, checked against a model's inputs and read one at a time.

In an .npz file the keys are input names. Samples lie on the first axis:

- an array of the input's rank gives one sample a row, which keeps its axis (`x[i:i+1]`); where the model fixes the
  first size to N > 1, a sample is N rows, and exactly N rows hold for every sample;
- an array of one rank more gives `x[i]`; a 0-d array holds for every sample;
- `NAME@0`, `NAME@1`, ... are whole samples, in numeric order, for samples that differ in shape.

NaN and Inf are data like any other; passes that learn from data refuse NaN (`calibration.py`).
"""

from __future__ import annotations

import importlib
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError
from .interface import Array, Feed, Pins, as_fed, check_dtype, check_feed, check_names, check_shape, dims_of, find_port
from .npz import NpzData, NpzFile

if TYPE_CHECKING:
    from ..ir.backend import Port

_FUNCTION = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")
_NO_PINS = Pins()


@dataclass(frozen=True)
class Samples:
    """Feeds that can be walked more than once; each is made when it is asked for, in the inputs' exact dtypes."""

    source: str
    """Where they come from, for messages and reports."""
    count: int | None
    """How many there are; None if only walking them tells."""
    feeds: Callable[[], Iterator[Feed]]

    def __iter__(self) -> Iterator[Feed]:
        """The feeds; UserError if one does not fit the model or cannot be read, or if there are none."""
        empty = True
        for feed in self.feeds():
            empty = False
            yield feed
        if empty:
            raise UserError(f"{self.source}: no samples")

    def __length_hint__(self) -> int:
        """For progress: how many there are, if that is known without walking them."""
        return NotImplemented if self.count is None else self.count


def load_samples(
    spec: str | Sequence[str],
    ports: Sequence[Port],
    pins: Pins = _NO_PINS,
    *,
    generated: Callable[[], Sequence[Mapping[str, Any]]] | None = None,
) -> Samples:
    """The samples that `spec` names for a model with the inputs `ports`.

    `spec` is an .npz file, a folder of them (taken in the order of their names), several of these, `module:function`
    (a function without arguments that yields feeds; modules are found in the working directory too), or `random`,
    which calls `generated`. Pinned values replace data or stand in for it; pinned shapes must be met.
    Raises UserError, for files before any data are read.
    """
    pins.check(ports)
    ports = [_pinned(port, pins) for port in ports]
    specs = [spec] if isinstance(spec, str) else list(spec)
    if specs == ["random"]:
        if generated is None:
            raise UserError("--data random: generated inputs are of no use here; give .npz files or module:function")
        return samples_from(generated, ports, pins, source="random")
    if len(specs) == 1 and (match := _FUNCTION.fullmatch(specs[0])) and not Path(specs[0]).exists():
        return samples_from(_function(match[1], match[2], specs[0]), ports, pins, source=specs[0])
    files = [_File.plan(NpzFile.scan(path), ports) for one in specs for path in _npz_paths(one)]
    if not files:
        raise UserError("--data: no files given")

    def feeds() -> Iterator[Feed]:
        for file in files:
            for feed in file.feeds(ports):
                yield _with_values(feed, ports, pins)

    return Samples(", ".join(specs), sum(file.count for file in files), feeds)


def samples_from(
    feeds: Callable[[], Iterable[Mapping[str, Any]]], ports: Sequence[Port], pins: Pins = _NO_PINS, *, source: str
) -> Samples:
    """Samples made of the feeds that a function gives, each checked when it comes; its errors become UserErrors."""
    ports = [_pinned(port, pins) for port in ports]

    def checked() -> Iterator[Feed]:
        for index, feed in enumerate(_guarded(feeds, source)):
            where = f"{source}: sample {index}"
            if not isinstance(feed, Mapping):
                raise UserError(f"{where}: expected a dict of arrays by input name, not {type(feed).__name__}")
            yield _with_values(check_feed(feed, ports, where), ports, pins)

    return Samples(source, None, checked)


def _guarded(feeds: Callable[[], Iterable[Mapping[str, Any]]], source: str) -> Iterator[Mapping[str, Any]]:
    """The feeds of the user's function; whatever goes wrong in it is the user's error, in one line."""
    count = 0
    try:
        for feed in feeds():
            yield feed
            count += 1
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{source}: sample {count}: {type(error).__name__}: {error}") from error


def _pinned(port: Port, pins: Pins) -> Port:
    """The port as the data must meet it: with its pinned shape, and not required if its value is pinned."""
    return port._replace(
        shape=pins.shapes.get(port.name, port.shape), optional=port.optional or port.name in pins.values
    )


def _with_values(feed: Feed, ports: Sequence[Port], pins: Pins) -> Feed:
    for port in ports:
        value = pins.scalar(port)
        if value is not None and port.name in feed:
            feed[port.name] = np.full(feed[port.name].shape, value, dtype=value.dtype)
        elif value is not None:
            feed[port.name] = pins.array(port)
    return feed


def _function(module: str, name: str, spec: str) -> Callable[[], Iterable[Mapping[str, Any]]]:
    try:
        with _working_directory_importable():
            found = getattr(importlib.import_module(module), name, None)
    except Exception as error:
        raise UserError(f"--data {spec}: cannot import {module}: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise UserError(f"--data {spec}: {module} has no function {name!r}")
    function: Callable[[], Iterable[Mapping[str, Any]]] = found
    return function


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    before = list(sys.path)
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path[:] = before


def _npz_paths(spec: str) -> list[Path]:
    path = Path(spec)
    if path.is_dir():
        paths = sorted(path.glob("*.npz"))
        if not paths:
            raise UserError(f"--data {spec}: no .npz files in this folder")
        return paths
    if not path.exists():
        raise UserError(f"--data {spec}: no such file (expected .npz, a folder of .npz, module:function or random)")
    return [path]


@dataclass(frozen=True)
class _Rows:
    """Samples along the first axis: `step` rows each, without the axis if `drop`."""

    key: str
    step: int
    drop: bool


@dataclass(frozen=True)
class _Same:
    """One array that holds for every sample."""

    key: str


@dataclass(frozen=True)
class _Keyed:
    """One array a sample."""

    keys: tuple[str, ...]


@dataclass(frozen=True)
class _File:
    """How the arrays of one .npz file become feeds."""

    npz: NpzFile
    parts: Mapping[str, _Rows | _Same | _Keyed]
    """By input name."""
    count: int

    @classmethod
    def plan(cls, npz: NpzFile, ports: Sequence[Port]) -> _File:
        """Decide from the headers alone; UserError if the file does not fit the ports."""
        where = str(npz.path)
        plain, keyed = _keys_by_input(npz, ports)
        check_names([*plain, *keyed], ports, where)
        if both := plain.keys() & keyed.keys():
            raise UserError(f"{where}: input {min(both)!r} is given whole and by sample (NAME@0): keep one")
        parts: dict[str, _Rows | _Same | _Keyed] = {}
        for name, key in plain.items():
            parts[name] = _plan_plain(npz, key, find_port(name, ports, where))
        for name, indices in keyed.items():
            keys = tuple(indices[i] for i in sorted(indices))
            for key in keys:
                _check_member(npz, key, find_port(name, ports, where), npz.headers[key].shape)
            parts[name] = _Keyed(keys)
        return cls(npz, parts, _common_count(npz, parts, keyed))

    def feeds(self, ports: Sequence[Port]) -> Iterator[Feed]:
        by_name = {port.name: port for port in ports}
        with self.npz.opened() as data:
            columns = {name: _column(data, part) for name, part in self.parts.items()}
            for _ in range(self.count):
                yield {name: as_fed(by_name[name], next(column)) for name, column in columns.items()}


def _column(data: NpzData, part: _Rows | _Same | _Keyed) -> Iterator[Array]:
    """The values of one input, sample after sample."""
    if isinstance(part, _Rows):
        for rows in data.rows(part.key, part.step):
            yield rows[0] if part.drop else rows
    elif isinstance(part, _Keyed):
        yield from map(data.read, part.keys)
    else:
        yield from itertools.repeat(data.read(part.key))


def _keys_by_input(npz: NpzFile, ports: Sequence[Port]) -> tuple[dict[str, str], dict[str, dict[int, str]]]:
    """Keys that are input names, and by input and index those of the form NAME@INDEX."""
    names = {port.name for port in ports}
    plain: dict[str, str] = {}
    keyed: dict[str, dict[int, str]] = {}
    for key in npz.headers:
        name, at, index = key.rpartition("@")
        if key not in names and at and index.isascii() and index.isdigit():
            keyed.setdefault(name, {})[int(index)] = key
        else:
            plain[key] = key
    return plain, keyed


def _check_member(npz: NpzFile, key: str, port: Port, shape: Sequence[int]) -> None:
    where = f"{npz.path}: {key}" if key != port.name else str(npz.path)
    check_dtype(port, npz.headers[key].dtype, where)
    check_shape(port, shape, where)


def _plan_plain(npz: NpzFile, key: str, port: Port) -> _Rows | _Same:
    shape, want = npz.headers[key].shape, dims_of(port)
    if not shape:
        _check_member(npz, key, port, shape)
        return _Same(key)
    if want is not None and len(shape) == len(want) + 1:
        _check_member(npz, key, port, shape[1:])
        return _Rows(key, 1, drop=True)
    first = want[0] if want else None
    if not isinstance(first, int) or not shape[0] or shape[0] % first or len(shape) != len(want or ()):
        _check_member(npz, key, port, shape)
        return _Rows(key, 1, drop=False)
    _check_member(npz, key, port, (first, *shape[1:]))
    return _Same(key) if shape[0] == first > 1 else _Rows(key, first, drop=False)


def _common_count(
    npz: NpzFile, parts: Mapping[str, _Rows | _Same | _Keyed], keyed: Mapping[str, Mapping[int, str]]
) -> int:
    counts = {}
    for name, part in parts.items():
        if isinstance(part, _Rows):
            counts[name] = npz.headers[part.key].shape[0] // part.step
        elif isinstance(part, _Keyed):
            counts[name] = len(part.keys)
    if len(set(counts.values())) > 1:
        each = ", ".join(f"{name!r} has {count}" for name, count in counts.items())
        raise UserError(f"{npz.path}: the inputs have different numbers of samples: {each}")
    first = next(iter(keyed), None)
    for name, indices in keyed.items():
        if first is not None and indices.keys() != keyed[first].keys():
            odd = min(indices.keys() ^ keyed[first].keys())
            raise UserError(f"{npz.path}: sample @{odd} is given for only one of {first!r} and {name!r}")
    count = next(iter(counts.values()), 1)
    if not count:
        raise UserError(f"{npz.path}: no samples in it (the first axis is empty)")
    return count
