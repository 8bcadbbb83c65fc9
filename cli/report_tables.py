"""The report of a run as tables: the price after each pass, what became of the weights, what passes had to say."""

from __future__ import annotations

import re
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
_HEADER = ("pass", "effect", "time", "nodes", "parameters", "size", "MACs", "rel-l2", "SQNR", "arg-max")
_NUMBER = re.compile(r"\d+")


def show_report(report: Report, *, all_remarks: bool = False, stderr: bool = True) -> None:
    """Print everything that a report has for a person."""
    show_steps(report, stderr=stderr)
    if report.weights:
        header = ("weights of 1 kB or more", "reason", "by", "count", "before", "after")
        show_table(header, _weight_rows(report.weights), text=(0, 1, 2), stderr=stderr)
    remarks = _all_remark_rows(report.remarks) if all_remarks else _grouped_remark_rows(report.remarks)
    rows = list(remarks)
    if rows:
        show_table(("remarks", "pass", "count", "at", "reason"), rows, text=(0, 1, 3, 4), stderr=stderr)


def show_steps(report: Report, *, stderr: bool = True) -> None:
    """Print what the model costs after each pass, and its error against the input."""
    show_table(_HEADER, _step_rows(report), text=(0, 1), stderr=stderr)
    for note in _notes(report):
        click.echo(note, err=stderr)


def _step_rows(report: Report) -> Iterator[Row]:
    yield ("input", "", "", *_cost_cells(report.before), *[""] * len(METRICS))
    state = report.before
    for step in report.steps:
        state = step.after or state
        yield (step.text, step.effect, seconds_text(step.seconds), *_cost_cells(state), *_outcome_cells(step, state))
    if report.deployment_error is not None:
        yield ("deployed", *[""] * 6, *error_cells(report.deployment_error))


def _outcome_cells(step: Step, state: State) -> list[str]:
    """The errors after a pass, or why there are none."""
    if step.changed:
        return error_cells(state.error)
    return ["unchanged" if step.fate == "ran" else str(step.fate), *[""] * (len(METRICS) - 1)]


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
    """What was missed or failed; remarks whose reasons differ only in numbers are one line."""
    groups: dict[tuple[str, str, str], list[Remark]] = {}
    for remark in remarks:
        if remark.kind != "applied":
            key = (str(remark.kind), remark.by, _NUMBER.sub("#", remark.reason))
            groups.setdefault(key, []).append(remark)
    for (kind, by, _), group in groups.items():
        more = f" and {len(group) - 1:,} more" if len(group) > 1 else ""
        yield (kind, by, str(len(group)), group[0].subject + more, _reason(group[0]))


def _all_remark_rows(remarks: Iterable[Remark]) -> Iterator[Row]:
    return ((str(remark.kind), remark.by, "1", remark.subject, _reason(remark)) for remark in remarks)


def _reason(remark: Remark) -> str:
    return remark.reason + (f"; {remark.suggestion}" if remark.suggestion else "")
