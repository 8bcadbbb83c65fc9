"""Options of `prune` that contradict the unit or each other: one clear error each, when they are read."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, get_args

from ...errors import UserError
from .channels.plan import LEVELS, Criterion
from .layers import plan as layers
from .masks import plan as masks

if TYPE_CHECKING:
    from .prune import Prune

CHANNELS: tuple[str, ...] = get_args(Criterion)


def check_options(given: Prune) -> None:
    """UserError for the first mistake that is found."""
    if given.sparsity == 1:
        raise UserError("prune: sparsity must be below 1: nothing would be left")
    if given.unit == "layer":
        _check_layers(given)
    elif given.unit == "channel" or given.unit == "head":
        _check_channels(given)
    else:
        _check_masks(given)
    _check_error(given)
    _check_of_other_units(given)
    if given.tables and given.unit not in ("weight", "block"):
        raise UserError(f"prune: tables is for weights and blocks, not for unit={given.unit}")
    if given.repair == "statistics" and given.unit not in ("channel", "head"):
        raise UserError(f"prune: repair=statistics is for channels and heads, not for unit={given.unit}")


def _check_channels(given: Prune) -> None:
    _check_criterion(given, CHANNELS)
    goals = (given.sparsity, given.macs, given.bytes_, given.error, given.threshold)
    if given.criterion != "zero" and all(goal is None for goal in goals):
        raise UserError("prune needs a goal: sparsity, macs, bytes, error or threshold")
    if given.threshold is not None and given.criterion not in LEVELS:
        words = f"criterion={given.criterion} has no scale that a threshold could speak of"
        raise UserError(f"prune: {words}; {', '.join(LEVELS)} have")
    if given.steps > 1 and given.criterion == "zero":
        raise UserError("prune: criterion=zero takes no steps: what is dead goes at once")
    if given.steps > 1 and given.threshold is not None:
        raise UserError("prune: with channels and heads threshold takes no steps: what is below it goes at once")


def _check_layers(given: Prune) -> None:
    _check_criterion(given, layers.CRITERIA)
    if given.threshold is not None:
        raise UserError("prune: threshold is for weights, channels and heads")
    if all(goal is None for goal in (given.sparsity, given.macs, given.bytes_, given.error)):
        raise UserError("prune needs a goal: sparsity, macs, bytes or error")
    if given.steps > 1 or given.allocation != "layer":
        raise UserError("prune: unit=layer takes no steps or allocation: branches go one by one")


def _check_of_other_units(given: Prune) -> None:
    """Options that mean nothing for the unit."""
    defaults = {spec.name: spec.default for spec in fields(given)}
    for name, units in (("pattern", ("n:m",)), ("block", ("block",)), ("align", ("channel", "head"))):
        if getattr(given, name) != defaults[name] and given.unit not in units:
            raise UserError(f"prune: {name} is for unit={' and '.join(units)}, not for unit={given.unit}")
    if given.unit == "n:m" and given.allocation != "layer":
        raise UserError(
            "prune: with unit=n:m the pattern says how much goes of every layer: no allocation can be given"
        )


def _check_error(given: Prune) -> None:
    others = (given.sparsity, given.macs, given.bytes_, given.threshold)
    is_alone = all(goal is None for goal in others)
    steps = given.steps if given.unit in ("channel", "head") else 1
    if given.error is not None and (not is_alone or steps > 1):
        raise UserError("prune: error finds the share by itself: it goes with no other goal, nor with steps")


def _check_masks(given: Prune) -> None:
    unit = given.unit
    goals = [goal for goal in (given.sparsity, given.threshold, given.error) if goal is not None]
    if given.macs is not None or given.bytes_ is not None:
        raise UserError(f"prune: unit={unit} leaves MACs and bytes as they are: give sparsity or error")
    if unit == "n:m" and goals:
        raise UserError("prune: with unit=n:m the pattern says how much goes: no other goal can be given")
    if unit != "n:m" and len(goals) != 1:
        raise UserError(f"prune: unit={unit} needs a goal, and one: sparsity, error, or threshold for weights")
    if unit == "block" and given.threshold is not None:
        raise UserError("prune: threshold is for weights, channels and heads")
    _check_criterion(given, masks.CRITERIA)


def _check_criterion(given: Prune, known: tuple[str, ...]) -> None:
    if given.criterion not in known:
        words = f"criterion={given.criterion} is not for unit={given.unit}, which has {', '.join(known)}"
        raise UserError(f"prune: {words}")
