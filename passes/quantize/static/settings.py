"""What is asked of static and dynamic quantization, and which units are left out for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from ...calibrate.statistics import PERCENTILE
from ...manager.context import Context
from ..targets.profile import Profile, profile
from .equalized import Equalize
from .qoperator import why_not
from .ranges import Calibration
from .units import Unit


@dataclass(frozen=True)
class Settings:
    """The options of mode=static."""

    target: str
    latency: str
    error: float
    exclude: tuple[str, ...] = ()
    calibration: Calibration = "minmax"
    percentile: float = PERCENTILE
    cache: str = ""
    equalize: Equalize = "false"
    format: str = "qdq"
    activations: str = "auto"

    @property
    def aim(self) -> Profile:
        """The profile of the target, with the type of activations that was asked for."""
        found = profile(self.target)
        return found if self.activations == "auto" else replace(found, activation_type=self.activations)


def left_out(ctx: Context, settings: Settings, unit: Unit) -> str:
    """Why a unit is left out by the user; empty if it is not."""
    if not all(ctx.selects(node) for node in (unit.node, unit.tail) if node is not None):
        return "the pass may not act on it"
    weight = unit.node.input(unit.weight) if unit.weight >= 0 else None
    names = [unit.node.label, unit.node.outputs[0].name, *([] if weight is None else [weight.name])]
    pattern = excluded(names, settings)
    return "" if pattern is None else f"exclude has {pattern!r}"


def excluded(names: Sequence[str], settings: Settings) -> str | None:
    """The first pattern of `exclude` that one of the names matches."""
    return next((p for p in settings.exclude if any(fnmatchcase(name, p) for name in names)), None)


def why_excluded(ctx: Context, settings: Settings, aim: Profile, unit: Unit) -> str:
    """Why a unit is left out by the user, or cannot be written or fused in the form that was asked for; empty if
    nothing stands against it."""
    why = left_out(ctx, settings, unit)
    if settings.format == "qoperator":
        return why or why_not(unit, aim)
    if settings.latency != "off" and not aim.is_fused:
        return why or f"{aim.title} is not sure to compute in integers where activations are {aim.activation_type}"
    return why
