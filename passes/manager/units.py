"""Numbers as people write them (`1e-3`, `30%`, `64MB`), read and written back without losing a bit."""

from __future__ import annotations

import math
import re
from typing import Annotated, TypeAlias


class Bytes:
    """Marks an `int` annotation as a number of bytes, which the text may give a unit."""


Size: TypeAlias = Annotated[int, Bytes]
"""An option's size in bytes: `0`, `1000`, `1kB`, `64MB` (64 * 10**6), `64MiB` (64 * 2**20)."""

INTEGERS = range(-(2**63), 2**64)
"""What an `int` option can hold: the signed and the unsigned 64-bit integers."""

UNITS = {
    "": 1,
    "B": 1,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_SHOWN_UNITS = ("", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB")

_INT = re.compile(r"[+-]?[0-9]+")
_FLOAT = re.compile(r"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:[eE]([+-]?[0-9]{1,9}))?(%?)")
_SIZE = re.compile(r"([0-9]+)(?:\.([0-9]+))?([A-Za-z]*)")
_NAMED_FLOATS = {"inf": math.inf, "+inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_MAX_DIGITS = 40
"""More digits than any 64-bit number needs, fewer than Python refuses to convert."""


def read_int(text: str) -> int:
    """The integer that `text` spells in decimal digits; ValueError says what is wrong with it."""
    if not _INT.fullmatch(text):
        raise ValueError("not a whole number")
    if len(text) > _MAX_DIGITS:
        raise ValueError("too many digits")
    return int(text)


def read_float(text: str) -> float:
    """The float nearest to what `text` spells, `%` being a hundredth; ValueError says what is wrong with it.

    `30%` and `0.3` are the same float: the exponent is shifted, nothing is divided. Text that overflows to infinity or
    underflows to zero is refused.
    """
    if text in _NAMED_FLOATS:
        return _NAMED_FLOATS[text]
    match = _FLOAT.fullmatch(text)
    if not match:
        raise ValueError("not a number")
    digits, exponent, percent = match.groups()
    value = float(f"{digits}e{int(exponent or 0) - (2 if percent else 0)}")
    if math.isinf(value):
        raise ValueError("too large for a 64-bit float (infinity is written inf)")
    if value == 0 and digits.strip("+-.0"):
        raise ValueError("too small for a 64-bit float")
    return value


def show_float(value: float) -> str:
    """The fewest digits that `read_float` reads back to the identical float: `0.3`, `1e-5`, `4`, `-0`, `inf`."""
    digits, e, exponent = repr(float(value)).partition("e")
    return digits.removesuffix(".0") + (f"e{int(exponent)}" if e else "")


def read_size(text: str) -> int:
    """The number of bytes that `text` spells; ValueError says what is wrong with it."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError("not a size")
    whole, fraction, unit = match[1], match[2] or "", match[3]
    if unit not in UNITS:
        raise ValueError(f"not a size: its unit must be one of {', '.join(filter(None, UNITS))}")
    if len(whole + fraction) > _MAX_DIGITS:
        raise ValueError("too many digits")
    parts: int = 10 ** len(fraction)
    size, rest = divmod(int(whole + fraction) * UNITS[unit], parts)
    if rest:
        raise ValueError("not a whole number of bytes")
    return size


def show_size(size: int) -> str:
    """The size with the unit that leaves the smallest whole number: `64MB`, `64MiB`, `1500kB`, `7`."""
    number, unit = min((size // UNITS[unit], unit) for unit in _SHOWN_UNITS if size % UNITS[unit] == 0)
    return f"{number}{unit}"
