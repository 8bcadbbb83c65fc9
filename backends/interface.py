"""What a model accepts: ports in words, the check of one array against a port, and inputs pinned by the user."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError, did_you_mean
from ..ir.dtypes import name_of, numpy_dtype

if TYPE_CHECKING:
    from ..ir.backend import Port

Array = NDArray[Any]
Feed = dict[str, Any]
"""One run's inputs by name: arrays, lists of arrays for sequences, None for an absent optional."""
Dim = int | str | None

_NUMBER = re.compile(r"\d+")
_WORDS = {"true": True, "1": True, "false": False, "0": False}


def dims_of(port: Port) -> tuple[Dim, ...] | None:
    """The dimensions of a port, None where any size may be fed.

    Exporters write 0, -1 and `?` where they mean "unknown": a dimension of 0 is therefore free here, and what the
    executor makes of it decides.
    """
    if port.shape is None:
        return None
    return tuple(None if d in ("", "?") or (isinstance(d, int) and d <= 0) else d for d in port.shape)


def shape_text(shape: Sequence[Dim] | None) -> str:
    """A shape in words, e.g. `[batch, 3, ?, ?]`."""
    return "of any rank" if shape is None else "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"


def port_text(port: Port) -> str:
    """A port in words, e.g. `x: float [batch, 3, ?, ?]`."""
    if port.dtype is None:
        return f"{port.name}: not a tensor"
    return f"{port.name}: {name_of(port.dtype)} {shape_text(dims_of(port))}"


def find_port(name: str, ports: Sequence[Port], where: str) -> Port:
    """The port called `name`; UserError with the model's inputs if there is none."""
    for port in ports:
        if port.name == name:
            return port
    names = [port.name for port in ports]
    have = ", ".join(map(repr, names)) or "none"
    raise UserError(f"{where}: the model has no input {name!r} (it has {have}){did_you_mean(name, names)}")


def check_dtype(port: Port, dtype: np.dtype[Any], where: str) -> np.dtype[Any]:
    """The dtype that data of `dtype` has once they are fed to `port`; UserError naming both if they do not fit.

    Byte order is converted, unicode and bytes become strings, and raw bytes (`V2`, which is how numpy stores the
    types it does not know) are taken as the port's type if that is one numpy does not know either.
    """
    if port.dtype is None:
        raise UserError(f"{where}: input {port.name!r} is not a tensor: give it through module:function")
    want = numpy_dtype(port.dtype)
    text = want.kind == "O" and dtype.kind in "OUS"
    foreign = dtype.kind == "V" and dtype.fields is None and _is_foreign(want) and dtype.itemsize == want.itemsize
    if text or foreign or dtype.newbyteorder("=") == want:
        return want
    advice = f"; convert the array with .astype({want.name!r})" if want.isbuiltin == 1 and want.kind != "O" else ""
    raise UserError(f"{where}: input {port.name!r} is {dtype.name}, the model takes {name_of(port.dtype)}{advice}")


def _is_foreign(dtype: np.dtype[Any]) -> bool:
    return dtype.isbuiltin == 2


def check_shape(port: Port, shape: Sequence[int], where: str) -> None:
    """UserError if an array of `shape` cannot be fed to `port`: another rank, or another size where it is fixed."""
    want = dims_of(port)
    if want is None:
        return
    fits = len(want) == len(shape) and all(not isinstance(w, int) or w == s for w, s in zip(want, shape, strict=True))
    if not fits:
        raise UserError(f"{where}: input {port.name!r} is {shape_text(shape)}, expected {shape_text(want)}")


def as_fed(port: Port, array: Array) -> Array:
    """`array`, whose dtype `check_dtype` accepted, in the exact dtype of the port."""
    assert port.dtype is not None
    want = numpy_dtype(port.dtype)
    if array.dtype == want and want.kind != "O":
        return array
    if want.kind == "O":
        flat = [item.decode() if isinstance(item, bytes) else str(item) for item in array.ravel().tolist()]
        out = np.empty(array.size, dtype=object)
        out[:] = flat
        return out.reshape(array.shape)
    return array.view(want) if array.dtype.kind == "V" else array.astype(want)


def check_names(given: Iterable[str], ports: Sequence[Port], where: str) -> None:
    """UserError if a name is no input, or if an input without a default is not among the names."""
    names = list(given)
    for name in names:
        find_port(name, ports, where)
    missing = [port for port in ports if not port.optional and port.name not in names]
    if missing:
        raise UserError(f"{where}: no data for input {missing[0].name!r} ({port_text(missing[0])})")


def check_feed(feed: Mapping[str, Any], ports: Sequence[Port], where: str) -> Feed:
    """A feed with every array in its port's exact dtype; UserError if it does not fit the ports."""
    check_names(feed, ports, where)
    out: Feed = {}
    for name, value in feed.items():
        port = find_port(name, ports, where)
        if port.dtype is None:
            out[name] = value
            continue
        array = np.asarray(value)
        check_dtype(port, array.dtype, where)
        check_shape(port, array.shape, where)
        out[name] = as_fed(port, array)
    return out


class Refusals:
    """Why an executor refused feeds, and how often; messages that differ only in numbers count as one reason."""

    def __init__(self, counts: Mapping[str, int] | None = None) -> None:
        self.counts = dict(counts or {})
        """By the first message of its kind."""
        self._kinds = {_NUMBER.sub("#", message): message for message in self.counts}

    def add(self, error: Exception) -> None:
        """Count one more refused feed."""
        message = first_line(error)
        message = self._kinds.setdefault(_NUMBER.sub("#", message), message)
        self.counts[message] = self.counts.get(message, 0) + 1


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@dataclass(frozen=True)
class Pins:
    """Inputs whose shape or value the user fixed, by name; a value is text, read by the type of its input."""

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, shapes: Iterable[str] = (), values: Iterable[str] = ()) -> Pins:
        """Read `NAME=1x3x48x320` and `NAME=16000` as the command line gives them."""
        return cls(dict(map(parse_shape_pin, shapes)), dict(map(parse_value_pin, values)))

    def check(self, ports: Sequence[Port]) -> None:
        """UserError if a pin names no input, or contradicts its rank, its fixed sizes or its type."""
        for name, shape in self.shapes.items():
            check_shape(find_port(name, ports, "--shape"), shape, "--shape")
        for name in self.values:
            self.scalar(find_port(name, ports, "--value"))

    def scalar(self, port: Port) -> Array | None:
        """The pinned value of an input as a 0-d array of its dtype, None if it has none."""
        text = self.values.get(port.name)
        return None if text is None else _read(text, port)

    def array(self, port: Port) -> Array | None:
        """The pinned input whole: its value in its pinned or fixed shape; None if it has no pinned value."""
        value = self.scalar(port)
        if value is None:
            return None
        shape = self.shapes.get(port.name, dims_of(port))
        if shape is None or not all(isinstance(d, int) for d in shape):
            raise UserError(f"--value {port.name}: the input is {shape_text(shape)}: pin its size with --shape as well")
        return np.full([int(d) for d in shape if d is not None], value, dtype=value.dtype)


def parse_shape_pin(text: str) -> tuple[str, tuple[int, ...]]:
    """Read `NAME=1x3x48x320`."""
    name, equals, sizes = text.rpartition("=")
    parts = sizes.lower().split("x")
    if not equals or not name or not all(p.isascii() and p.isdigit() for p in parts):
        raise UserError(f"--shape {text}: expected NAME=SIZExSIZE..., for example images=1x3x640x640")
    return name, tuple(map(int, parts))


def parse_value_pin(text: str) -> tuple[str, str]:
    """Read `NAME=VALUE`; the value stays text until the type of the input is known."""
    name, _, value = text.rpartition("=")
    if not name or not value:
        raise UserError(f"--value {text}: expected NAME=VALUE, for example sr=16000")
    return name, value


def _read(text: str, port: Port) -> Array:
    where = f"--value {port.name}={text}"
    if port.dtype is None:
        raise UserError(f"{where}: the input is not a tensor and cannot be pinned")
    dtype = numpy_dtype(port.dtype)
    if dtype.kind == "O":
        return np.array(text, dtype=object)
    try:
        return _number(text, dtype)
    except (KeyError, ValueError, OverflowError):
        raise UserError(f"{where}: {text!r} is no {name_of(port.dtype)}") from None


def _number(text: str, dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "b":
        return np.array(_WORDS[text.lower()])
    if "int" not in dtype.name:
        with np.errstate(over="ignore"):
            return np.array(float(text)).astype(dtype)
    value = int(text)
    array = np.array(value).astype(dtype)
    if int(array) != value:
        raise OverflowError(text)
    return array
