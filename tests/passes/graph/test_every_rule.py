"""Every rule that is registered has a golden case in which it is applied, and of which the variants are run too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from onnx import ModelProto

from onnxpress.backends.ort import OrtBackend
from onnxpress.ir import lower
from onnxpress.passes.graph.canonicalize import canonicalize
from onnxpress.passes.graph.fuse import fuse
from onnxpress.passes.graph.recognize.operators import operators
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.rewriting.rule import Rule
from onnxpress.specs import model_of

from . import recognize_cases
from .canonicalize import test_goldens as canonicalize_cases
from .fuse import test_layers as fuse_cases

Goldens = Iterable[tuple[str, ModelProto]]
TABLES: dict[str, tuple[Iterable[Rule], Goldens]] = {
    "canonicalize": (
        canonicalize.RULES,
        [("canonicalize", case.models()[0]) for case in canonicalize_cases.CASES.values()],
    ),
    "recognize": (
        [rule for operator in operators() for rule in operator.rules],
        [(case.pipeline, model_of(case.before, opset=case.opset)) for case in recognize_cases.CASES.values()],
    ),
    "fuse": (fuse.rules(), [("fuse", model_of(before)) for before, _ in fuse_cases.GOLDEN.values()]),
}
"""Rules by pass, and the pipelines and models of its golden cases."""


@pytest.mark.parametrize("name", TABLES)
def test_it_has_a_golden_case(name: str) -> None:
    rules, goldens = TABLES[name]
    assert {rule.name for rule in rules} == set(applied(goldens))


def applied(goldens: Goldens) -> Counter[str]:
    """How often each rule was."""
    counts = Counter[str]()
    for pipeline, proto in goldens:
        for step in PassManager(pipeline, backend=OrtBackend()).run(lower(proto)).steps:
            counts.update(step.rules)
    return counts
