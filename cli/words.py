"""Numbers as tables show them. Nothing is rounded to a value that would say more than is true."""

from __future__ import annotations

import math

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def bytes_text(count: int) -> str:
    """Bytes in decimal units: `334 kB`."""
    return f"{_scaled(count)}B"


def count_text(count: int) -> str:
    """A count: whole below 10,000, then `81.4 k`, `2.1 M`."""
    return f"{count:,}" if count < 10_000 else _scaled(count).rstrip()


def _scaled(count: int) -> str:
    size, prefixes = float(count), iter(_PREFIXES)
    prefix = next(prefixes)
    while size >= 999.5:
        size, prefix = size / 1000, next(prefixes)
    digits = f"{size:.0f}" if not prefix or size >= 99.95 else f"{size:.3g}"
    return f"{digits} {prefix}"


def error_text(value: float) -> str:
    """An error of two digits; `0` for none at all."""
    return "0" if value == 0 else f"{value:.2g}"


def decibel_text(value: float) -> str:
    """A ratio in dB."""
    return f"{value:.1f} dB" if math.isfinite(value) else str(value)


def share_text(share: float) -> str:
    """A share in percent, rounded down: 100% is all of them."""
    return f"{math.floor(round(share * 10_000, 6)) / 100:g}%" if math.isfinite(share) else str(share)


def metric_text(metric: str, value: float) -> str:
    """The value of a metric as people read it."""
    if metric == "sqnr":
        return decibel_text(value)
    if metric == "argmax":
        return share_text(value)
    if metric == "unequal" and math.isfinite(value):
        return count_text(int(value))
    return f"{value:.6g}" if metric == "cosine" else error_text(value)


def ratio_text(after: float, before: float) -> str:
    """How much of the one the other is: `0.29 x`."""
    return f"{after / before:.2f} x" if before else "-"


def seconds_text(seconds: float) -> str:
    """A duration of three digits, in the unit that fits it."""
    if seconds < 0.9995e-3:
        return f"{seconds * 1e6:.3g} us"
    return (
        f"{seconds * 1e3:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s" if seconds < 999.5 else f"{seconds:.0f} s"
    )


def plural(count: int, noun: str) -> str:
    """`1 node`, `2 nodes`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
