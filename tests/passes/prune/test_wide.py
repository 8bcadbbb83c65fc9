"""Layers that are too wide for the moments of halves are refitted all the same, and those that are wider are named."""

from __future__ import annotations

import pytest

import onnxpress
from onnxpress.ir import Model
from onnxpress.passes.calibrate import stages

from .perceptrons import error, feeds, perceptron, prune

WIDE = 64


def pruned(options: str) -> tuple[Model, list[str]]:
    model = onnxpress.load(perceptron(WIDE))
    report = prune(model, options, data=feeds())
    return model, [f"{remark.subject}: {remark.reason}" for remark in report.remarks if remark.rule == "refit"]


def moments(inputs: int, left: int) -> int:
    """Bytes of one set of moments."""
    return 8 * (left + 1) * (left + inputs)


@pytest.mark.parametrize(
    "options", ["sparsity=0.25 align=1", "unit=weight sparsity=0.5", "unit=weight sparsity=0.5 criterion=obs"]
)
def test_without_room_for_halves_layers_are_refitted(monkeypatch: pytest.MonkeyPatch, options: str) -> None:
    original = onnxpress.load(perceptron(WIDE))
    plain, _ = pruned(f"{options.replace('obs', 'l1')} repair=off")
    monkeypatch.setattr(stages, "MEMORY", moments(WIDE, WIDE))
    model, told = pruned(options)
    assert not any("memory" in each for each in told)
    assert error(original, model) < 0.8 * error(original, plain)


def test_a_layer_without_any_room_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "MEMORY", moments(WIDE, 48) - 1)
    _, told = pruned("sparsity=0.25 align=1")
    assert told == ["B: not refitted: its moments take too much memory", "model: 1 layers refitted"]
