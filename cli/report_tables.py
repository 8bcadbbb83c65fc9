"""The report of a run as tables: the price after each pass, what became of the weights, what passes had to say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from .tables import Row, show_table
from .timing import latency_text
from .words import bytes_text, count_text, metric_text, plural, seconds_text

if TYPE_CHECKING:
    from ..ir.analysis.cost import Cost
    from ..passes.manager.remarks import Remark
    from ..passes.manager.report import Report, State, Step
    from ..passes.manager.weights import WeightEntry

METRICS = ("rel-l2", "sqnr", "argmax")
"""The columns of error."""
_HEADER = ("pass", "effect", "time", "nodes", "parameters", "size", "MACs", "step rel-l2", "rel-l2", "SQNR", "arg-max")
_NUMBER = re.compile(r"\d+")


def show_report(report: Report, *, remarks: str = "missed", stderr: bool = True) -> None:
    """Print everything that a report has for a person; `remarks` is `missed` (and failed), a kind, or `all`."""
    show_steps(report, stderr=stderr)
    if report.weights:
        header = ("weights of 1 kB or more", "reason", "by", "count", "before", "after")
        show_table(header, _weight_rows(report.weights), text=(0, 1, 2), stderr=stderr)
    for by in dict.fromkeys(row.by for row in report.layers):
        rows_ = [row for row in report.layers if row.by == by]
        columns = list(dict.fromkeys(key for row in rows_ for key in row.cells))
        named = [column.replace("_", " ") for column in columns]
        cells = [(row.layer, *(_cell(row.cells.get(column)) for column in columns)) for row in rows_]
        words = [
            0,
            *(i + 1 for i, column in enumerate(columns) if any(isinstance(r.cells.get(column), str) for r in rows_)),
        ]
        show_table((f"layers of {by}", *named), cells, text=tuple(words), stderr=stderr)
    kinds = {"missed": ("missed", "failed"), "all": ("applied", "missed", "failed")}.get(remarks, (remarks,))
    shown = [remark for remark in report.remarks if remark.kind in kinds]
    rows = list(_all_remark_rows(shown) if remarks in ("all", "applied") else _grouped_remark_rows(shown))
    if rows:
        header = ("remarks", "pass", "count", "at stake", "at", "reason")
        show_table(header, rows, text=(0, 1, 4, 5), stderr=stderr)


def _cell(value: str | float | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def show_timing(report: Report) -> None:
    """Print where the time went: the passes as a tree, with what verifying and measuring took on top."""
    header = ("pass", "itself", "verifying", "measuring")
    rows = [
        ("  " * depth + step.text, *map(seconds_text, (step.seconds, step.verify_seconds, step.measure_seconds)))
        for depth, step in _walk(report.steps)
    ]
    show_table(header, rows, stderr=True)
    own = sum(step.seconds for step in report.steps)
    click.echo(
        f"\nPasses {seconds_text(own)}; framework, without measuring, {seconds_text(report.overhead_seconds)}.",
        err=True,
    )


def show_statistics(report: Report) -> None:
    """Print how often each rule was applied, and what was edited, pass by pass."""
    rows: list[Row] = []
    for depth, step in _walk(report.steps):
        name = "  " * depth + step.text
        rows += [(name, f"rule {rule}", f"{count:,}") for rule, count in sorted(step.rules.items())]
        rows += [(name, f"edit {kind}", f"{count:,}") for kind, count in sorted(step.edits.items())]
        if not step.edits:
            rows.append((name, "nothing changed", "0"))
    counts = Counter((remark.by, f"remark {remark.kind}", remark.rule) for remark in report.remarks)
    rows += [(by, " ".join(filter(None, what)), f"{count:,}") for (by, *what), count in sorted(counts.items())]
    show_table(("pass", "what", "count"), rows, text=(0, 1), stderr=True)


def _walk(steps: Sequence[Step], depth: int = 0) -> Iterator[tuple[int, Step]]:
    for step in steps:
        yield depth, step
        yield from _walk(step.children, depth + 1)


def show_steps(report: Report, *, stderr: bool = True) -> None:
    """Print what the model costs after each pass, and its error against the input."""
    show_table(_HEADER, _step_rows(report), text=(0, 1), stderr=stderr)
    for note in _notes(report):
        click.echo(note, err=stderr)


def _step_rows(report: Report) -> Iterator[Row]:
    yield ("input", "", "", *_cost_cells(report.before), "", *[""] * len(METRICS))
    state = report.before
    for depth, step in _walk(report.steps):
        name, time = "  " * depth + step.text, seconds_text(step.seconds)
        if depth:
            yield (name, step.effect, time, *[""] * 4, *_outcome_cells(step, None))
            continue
        state = step.after or state
        yield (name, step.effect, time, *_cost_cells(state), *_outcome_cells(step, state))
    if report.deployment_error is not None:
        yield ("deployed", *[""] * 7, *error_cells(report.deployment_error))


def _outcome_cells(step: Step, state: State | None) -> list[str]:
    """The errors after a pass, against the step before and against the input, or why there are none."""
    if not step.changed:
        return ["unchanged" if step.fate == "ran" else str(step.fate), *[""] * len(METRICS)]
    against_before = "" if step.step_error is None else metric_text("rel-l2", step.step_error["rel-l2"])
    return [against_before, *([""] * len(METRICS) if state is None else error_cells(state.error))]


def _cost_cells(state: State) -> tuple[str, ...]:
    cost = state.cost
    return count_text(cost.nodes), count_text(cost.parameters), bytes_text(state.file_bytes), _macs_text(cost)


def _macs_text(cost: Cost) -> str:
    if not cost.macs_unknown:
        return count_text(cost.macs)
    return f"{count_text(cost.macs)}+" if cost.macs else "?"


def error_cells(error: Mapping[str, float] | None) -> list[str]:
    """One cell for each metric of `METRICS`."""
    return ["-" if error is None else metric_text(name, error[name]) for name in METRICS]


def _notes(report: Report) -> Iterator[str]:
    if report.data:
        yield (
            f"\nError against the input, on {report.data}: after each pass in the reference configuration "
            "(optimizations off); `deployed` with optimizations on."
        )
    if report.changed and report.after.unmeasured:
        yield f"Not measured: {report.after.unmeasured}."
    unknown = report.after.cost.macs_unknown
    if unknown:
        yield f"MACs: those of {plural(unknown, 'operator')} of unknown shape are not counted."
    if "latency" in report.extra:
        yield latency_text(report.extra["latency"])


def _weight_rows(entries: Iterable[WeightEntry]) -> Iterator[Row]:
    groups: dict[tuple[str, str, str], list[WeightEntry]] = {}
    for entry in entries:
        key = (str(entry.outcome), str(entry.reason), entry.by)
        groups.setdefault(key, []).append(entry)
    for key, group in sorted(groups.items(), key=lambda item: -sum(entry.nbytes for entry in item[1])):
        before, after = sum(entry.nbytes for entry in group), sum(entry.final_nbytes for entry in group)
        yield (*key, str(len(group)), bytes_text(before), bytes_text(after))


def _grouped_remark_rows(remarks: Sequence[Remark]) -> Iterator[Row]:
    """Remarks whose reasons differ only in numbers are one line."""
    groups: dict[tuple[str, str, str], list[Remark]] = {}
    for remark in remarks:
        groups.setdefault((str(remark.kind), remark.by, _NUMBER.sub("#", _reason(remark))), []).append(remark)
    for (kind, by, _), group in groups.items():
        more = f" and {len(group) - 1:,} more" if len(group) > 1 else ""
        stake = sum(remark.bytes_at_stake for remark in group)
        yield (kind, by, str(len(group)), _stake(stake), group[0].subject + more, _reason(group[0]))


def _all_remark_rows(remarks: Iterable[Remark]) -> Iterator[Row]:
    for remark in remarks:
        yield (str(remark.kind), remark.by, "1", _stake(remark.bytes_at_stake), remark.subject, _reason(remark))


def _stake(count: int) -> str:
    return bytes_text(count) if count else ""


def _reason(remark: Remark) -> str:
    return remark.reason + (f"; {remark.suggestion}" if remark.suggestion else "")
