"""Profiles of targets, read from the TOML files beside this one.

A profile says which types activations, weights and biases have, and which operators the target computes in integers,
in three roles: `compute` (products), `pointwise` (operands and result have parameters of their own) and `movers`
(results are elements of the input). Nothing about a target stands in code.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any

from ....errors import UserError


class Role(StrEnum):
    """What an operator that runs in integers does."""

    COMPUTE = "compute"
    POINTWISE = "pointwise"
    MOVER = "movers"


@dataclass(frozen=True)
class OperatorRule:
    """How a target takes one operator: from which opset on, with which `mode`, and whether its output must be
    quantized too (else it may be left in float)."""

    role: Role
    since: int = 1
    mode: str = ""
    output: str = "quantized"
    least: int = 0
    """Products with fewer terms or outputs than this stay in float."""
    channels: bool = True
    """Whether the weight of a product has a scale for every output channel, else one for all."""
    scale: float = 0.0
    """The scale of the output if the target lays it down, else 0."""
    zero: int = 0
    """The zero point that goes with it."""


@dataclass(frozen=True)
class Coefficients:
    """Microseconds for a million MACs, and for a million numbers read and written: in float, and in integers."""

    mac: tuple[float, float] = (0.0, 0.0)
    number: tuple[float, float] = (0.0, 0.0)
    apart: float = 0.0
    """Microseconds more for a million MACs in integers without the layout of integer convolutions."""
    spelled: float = 0.0
    """Microseconds for a million numbers in float spelled out; 0 where that is unknown or no matter."""


@dataclass(frozen=True)
class Profile:
    """One target."""

    name: str
    title: str
    runs_here: bool
    """Whether the executor at hand is this target, so that timing means something."""
    activation_type: str
    """That of activations where none is asked for."""
    takes: tuple[str, ...]
    """The types that may be asked for."""
    fused: tuple[str, ...]
    """Those that it is sure to compute with in integers; around others Q and DQ are work of their own."""
    is_symmetric: bool
    """Whether zero points of activations are zero."""
    in_each_run: bool
    """Whether a product with a matrix is as fast by the ranges of each run, in uint8, as by known ones."""
    weight_levels: int
    """The largest absolute level of a weight."""
    bias_type: str
    """`int32` for a bias behind DequantizeLinear, `float` for a plain one."""
    rules: Mapping[str, OperatorRule]
    absorbed: tuple[str, ...]
    """Activations that the range of a Q makes redundant."""
    qoperators: Mapping[str, str]
    """The integer operator of an operator, with its domain; none where the runtime has no such form."""
    costs: Mapping[str, Coefficients]
    """Times by kind of unit."""
    node: float
    """Microseconds of a node."""
    quantize: float
    """Microseconds for a million numbers quantized."""
    decode: float
    """Microseconds for a million numbers decoded."""

    @property
    def is_fused(self) -> bool:
        """Whether operators are computed in integers with activations of the type of this profile."""
        return self.activation_type in self.fused

    @property
    def has_ranges_of_runs(self) -> bool:
        """Whether products may get the ranges of each run with activations of the type of this profile."""
        return self.in_each_run and self.activation_type == "uint8"

    @property
    def takes_contrib(self) -> bool:
        """Whether the runtime has the operators of onnxruntime's own domain."""
        return any(name.startswith("com.microsoft.") for name in self.qoperators.values())

    @property
    def operator_types(self) -> tuple[str, ...]:
        """The types that operators on levels have: 8 bits, and fast."""
        return tuple(name for name in self.fused if name in ("uint8", "int8"))

    def rule(self, op_type: str) -> OperatorRule | None:
        """How the target takes an operator of the standard domain; None if it computes it in float."""
        return self.rules.get(op_type)


def names() -> tuple[str, ...]:
    """The targets that have a profile."""
    files = (entry.name for entry in resources.files(__package__).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml")))


@cache
def profile(name: str) -> Profile:
    """The profile of a target; UserError if there is none of that name."""
    if name not in names():
        raise UserError(f"no target is called {name!r}: there are {', '.join(names())}")
    data = tomllib.loads((resources.files(__package__) / f"{name}.toml").read_text(encoding="utf-8"))
    rules = {
        op_type: OperatorRule(role, **table) for role in Role for op_type, table in data.get(str(role), {}).items()
    }
    return Profile(
        name=name,
        title=data["title"],
        runs_here=data["runs_here"],
        activation_type=data["activations"]["type"],
        takes=tuple(data["activations"]["takes"]),
        fused=tuple(data["activations"].get("fused", data["activations"]["takes"])),
        is_symmetric=data["activations"]["symmetric"],
        in_each_run=data["activations"].get("in_each_run", False),
        weight_levels=data["weights"]["levels"],
        bias_type=data["bias"]["type"],
        rules=rules,
        absorbed=tuple(data["absorbed"]["operators"]),
        qoperators=data.get("qoperators", {}),
        costs={kind: _coefficients(table) for kind, table in data.get("cost", {}).items() if isinstance(table, dict)},
        **{key: data.get("cost", {}).get(key, 0.0) for key in ("node", "quantize", "decode")},
    )


def _coefficients(table: Mapping[str, Any]) -> Coefficients:
    def pair(key: str) -> tuple[float, float]:
        in_float, in_integers = table.get(key, (0.0, 0.0))
        return float(in_float), float(in_integers)

    return Coefficients(pair("mac"), pair("number"), float(table.get("apart", 0.0)), float(table.get("spelled", 0.0)))
