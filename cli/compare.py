"""`onnxpress compare A B`: how far B is from A, and whether that is near enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import debug_option, input_options, pins_of
from .tables import Row, show_table

if TYPE_CHECKING:
    from ..backends.compare import Comparison, Worst
    from ..backends.interface import Pins
    from ..backends.latency import Latency
    from ..backends.metrics import Limit
    from ..ir import Model

_PATH = click.Path(path_type=Path)
_SESSIONS = {"reference": False, "deployment": True}
"""The sessions compared, and whether the runtime's own optimizations are on."""

_REASONS = 3


@click.command("compare", short_help="Compare two models on the same inputs, and hold limits.")
@click.argument("a", metavar="A", type=_PATH)
@click.argument("b", metavar="B", type=_PATH)
@input_options
@click.option(
    "--max",
    "limits",
    multiple=True,
    metavar="METRIC=X",
    help="Fail beyond this: max-abs, rel-l2 and unequal at most X; sqnr, cosine and argmax at least X.",
)
@click.option("--time", "timed", is_flag=True, help="Time B against A: interleaved runs, one thread.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@debug_option
def command(
    a: Path,
    b: Path,
    data: tuple[str, ...],
    shapes: tuple[str, ...],
    values: tuple[str, ...],
    seed: int,
    limits: tuple[str, ...],
    timed: bool,
    as_json: bool,
) -> int:
    """Run the models A and B on the same inputs and compare their outputs.

    Both are run in the reference configuration (the runtime's optimizations off) and as they would be deployed (on).

    Exit code 0: compared, and no limit is broken; without --max any difference is accepted. 1: a limit is broken, no
    input could be checked, or the models do not match: B refuses what A runs, or an output has another shape or type,
    or NaN or Inf at other places.
    """
    from ..backends.metrics import Limit
    from .checks import check_data_files, check_exists
    from .progress import bars

    wanted = [Limit.parse(text) for text in limits]
    pins = pins_of(shapes, values)
    for path in (a, b):
        check_exists(path)
    check_data_files(data)
    from ..api import load
    from .timing import time_models

    latency: Latency | str | None = None
    with bars() as progress:
        with progress.working("reading"):
            one, other = load(a), load(b)
        found = {
            session: _compared(one, other, data, wanted, pins, seed, optimize=_SESSIONS[session])
            for session in progress.track(list(_SESSIONS), "comparing")
        }
        passed = all(comparison.passed for comparison in found.values())
        if timed and passed:
            with progress.working("timing"):
                latency = time_models(one, other, data=data or None, pins=pins, seed=seed)
    if as_json:
        _print_json(found, latency, passed=passed)
    else:
        _show(found, latency)
    return 0 if passed else 1


def _compared(
    a: Model, b: Model, data: tuple[str, ...], limits: list[Limit], pins: Pins, seed: int, *, optimize: bool
) -> Comparison:
    """The comparison in one kind of session; LimitError if the executor takes one of the models not at all."""
    from ..api import compare
    from ..errors import ExecutionError, LimitError

    try:
        return compare(a, b, data=data or None, limits=limits, pins=pins, seed=seed, optimize=optimize)
    except ExecutionError as error:
        raise LimitError(f"nothing can be compared: {error}") from error


def _print_json(found: Mapping[str, Comparison], latency: Latency | str | None, *, passed: bool) -> None:
    from .json_text import json_text
    from .timing import latency_dict

    timing = {} if latency is None else {"latency": latency_dict(latency)}
    sessions = {session: comparison.as_dict() for session, comparison in found.items()}
    click.echo(json_text({"passed": passed, **sessions, **timing}))


def _show(found: Mapping[str, Comparison], latency: Latency | str | None) -> None:
    from .timing import latency_dict, latency_text

    for session, comparison in found.items():
        click.echo(f"{session}: {_verdict(comparison)}")
    for line in dict.fromkeys(line for comparison in found.values() for line in comparison.mismatches):
        click.echo(f"  {line}")
    for line in dict.fromkeys(line for comparison in found.values() for line in _why_unchecked(comparison)):
        click.echo(f"  {line}")
    rows = list(_rows(found))
    if rows:
        show_table(("metric", *found, "limit", "worst at"), rows, text=(0, 4))
    if latency is not None:
        click.echo(f"\n{latency_text(latency_dict(latency))}")


def _verdict(comparison: Comparison) -> str:
    from .words import plural

    broken = ", ".join(map(str, comparison.broken))
    words = {
        "over": f"over the limit ({broken})",
        "within": "within the limits",
        "differs": "they differ (no --max given)",
    }.get(comparison.verdict, comparison.verdict)
    discarded = f" ({plural(comparison.discarded, 'other')} discarded: A refuses them)" if comparison.discarded else ""
    return f"{words}, on {plural(comparison.checked, 'input')}{discarded}"


def _why_unchecked(comparison: Comparison) -> Iterator[str]:
    """The commonest reasons why A refused inputs, if it refused all."""
    if not comparison.checked:
        commonest = sorted(comparison.refused.items(), key=lambda item: -item[1])[:_REASONS]
        yield from (f"{count} x {reason}" for reason, count in commonest)


def _rows(found: Mapping[str, Comparison]) -> Iterator[Row]:
    """One row for each metric, with the worst value of each session."""
    from .words import metric_text

    first = next(iter(found.values()))
    limits = {limit.metric: f"{limit.value:g}" for limit in first.limits}
    for name in dict.fromkeys(name for comparison in found.values() for name in comparison.worst):
        worst = [comparison.worst.get(name) for comparison in found.values()]
        cells = ["-" if w is None else metric_text(name, w.value) for w in worst]
        yield (name, *cells, limits.get(name, ""), next((_place(w) for w in worst if w and w.output), ""))


def _place(worst: Worst) -> str:
    return f"{worst.output}, input {worst.sample}"
