"""What runs in the layout of integer convolutions.

onnxruntime computes convolutions of 8-bit numbers with channels last, and lets that layout reach as far as operators
that do not care for it. Some operators are fast in it alone: its MaxPool of 8-bit numbers takes about ninety times as
long where they come from elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping

from ....ir import Value
from .units import Unit

PASSING = ("LeakyRelu", "MaxPool", "Mul", "Sigmoid")
"""Operators through which the layout passes: that of their inputs is that of their output."""


def behind_convolutions(unit: Unit, made_by: Mapping[Value, Unit]) -> frozenset[Unit] | None:
    """The units from which `unit` has its inputs, back to convolutions: it has their layout if all of them run in
    integers. None if an input comes from elsewhere."""
    found: set[Unit] = set()
    todo = [unit]
    while todo:
        for value in todo.pop().activations:
            maker = made_by.get(value)
            if maker is None or not maker.node.is_op("Conv", *PASSING):
                return None
            if maker not in found:
                found.add(maker)
                if not maker.node.is_op("Conv"):
                    todo.append(maker)
    return frozenset(found)
