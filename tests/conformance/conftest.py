"""The cases of onnx's own backend tests: models with recorded inputs and outputs."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx import ModelProto, TypeProto, numpy_helper

DATA = Path(onnx.backend.test.__file__).parent / "data"
Feeds = dict[str, Any]
Recorded = tuple[Feeds, list[Any]]


@dataclass(frozen=True)
class Case:
    """A model, and what it was recorded to compute; `path` is its file, if it has one."""

    name: str
    path: Path | None
    load: Callable[[], ModelProto]
    recorded: Callable[[], list[Recorded]]
    rtol: float = 1e-3
    atol: float = 1e-7


def array_of(value: Any) -> Any:
    """A recorded value as onnx's runner sees it: an array, a list of them, or None for an absent optional."""
    if isinstance(value, list | tuple):
        return [array_of(item) for item in value]
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return None if value is None else np.asarray(value)


def _read(path: Path, kind: TypeProto) -> Any:
    data = path.read_bytes()
    if kind.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def _stored(folder: Path, model: ModelProto) -> list[Recorded]:
    """What lies beside a model: test_data_set_N/input_I.pb and output_I.pb."""

    def values(data_set: Path, stem: str, infos: Any) -> dict[str, Any]:
        files = [data_set / f"{stem}_{i}.pb" for i in range(len(infos))]
        return {i.name: _read(f, i.type) for i, f in zip(infos, files, strict=True) if f.is_file()}

    return [
        (values(data_set, "input", model.graph.input), [*values(data_set, "output", model.graph.output).values()])
        for data_set in sorted(folder.glob("test_data_set_*"))
    ]


def _ramps(path: Path, model: ModelProto) -> list[Recorded]:
    """The feed that the outputs of the light models were recorded with: 0, 1/n, 2/n, ..."""
    defaults = {dense.name for dense in model.graph.initializer}
    feeds: Feeds = {}
    for info in model.graph.input:
        if info.name not in defaults:
            shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
            feeds[info.name] = (np.arange(np.prod(shape)).reshape(shape) / np.prod(shape)).astype(np.float32)
    outputs = [path.with_name(f"{path.stem}_output_{i}.pb") for i in range(len(model.graph.output))]
    return [(feeds, [_read(f, info.type) for f, info in zip(outputs, model.graph.output, strict=True)])]


def _stored_case(path: Path) -> Case:
    model = cache(lambda: onnx.load(path, load_external_data=False))
    if path.parent.name != "light":
        name = f"{path.parents[1].name}-{path.parent.name}"
        return Case(name, path, model, lambda: _stored(path.parent, model()))
    told = json.loads((DATA / "real" / f"test_{path.stem.removeprefix('light_')}" / "data.json").read_text())
    return Case(path.stem, path, model, lambda: _ramps(path, model()), told["rtol"], told["atol"])


@cache
def stored_cases() -> list[Case]:
    """The models in onnx's wheel, in the order of their paths."""
    return [_stored_case(path) for path in sorted(DATA.rglob("*.onnx"))]


def _node_case(case: Any) -> Case:
    def recorded() -> list[Recorded]:
        infos = case.model.graph.input
        return [
            ({i.name: array_of(v) for i, v in zip(infos, inputs, strict=False)}, [array_of(v) for v in outputs])
            for inputs, outputs in case.data_sets
        ]

    return Case(f"node-{case.name}", None, lambda: case.model, recorded, case.rtol, case.atol)


@cache
def node_cases() -> list[Case]:
    """The cases that onnx generates, one operator or its expansion each, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the numpy code that makes the recorded outputs
        from onnx.backend.test.case.node import collect_testcases

        made = collect_testcases(None)
    return [_node_case(case) for case in sorted(made, key=lambda case: case.name) if case.model is not None]


CASES: Mapping[str, Callable[[], list[Case]]] = {
    "stored_case": stored_cases,
    "node_case": node_cases,
    "any_case": lambda: [*stored_cases(), *node_cases()],
    "case_with_weights": lambda: [case for case in stored_cases() if case.load().graph.initializer],
    "node_case_of_many_inputs": lambda: [case for case in node_cases() if len(case.load().graph.input) > 1],
}


PIPELINES = ("fold,dce", "simplify", "simplify-operators")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for one of CASES runs once for each of them; if it asks for a pipeline too, with each in turn,
    so that what the case itself computes is found once for all of them."""
    for fixture in CASES.keys() & set(metafunc.fixturenames):
        cases = CASES[fixture]()
        if "pipeline" in metafunc.fixturenames:
            metafunc.parametrize((fixture, "pipeline"), _pairs(cases))
        else:
            metafunc.parametrize(fixture, cases, ids=lambda case: case.name)


def _pairs(cases: list[Case]) -> list[Any]:
    """Each case with each of PIPELINES. Of a single node no operator is spelled out, so the pipeline that looks for
    them does nothing else; of the node cases with more, one in three runs with it, and all with ONNXPRESS_FUZZ=1."""
    spelled_out = [case for case in cases if len(case.load().graph.node) > 1]
    kept = [case for case in spelled_out if case.path is None]
    left_out = set() if os.environ.get("ONNXPRESS_FUZZ") == "1" else {*kept} - {*kept[::3]}
    wide = {*spelled_out} - left_out
    return [
        pytest.param(case, pipeline, id=f"{case.name}-{pipeline.partition(',')[0]}")
        for case in cases
        for pipeline in (PIPELINES if case in wide else PIPELINES[:-1])
    ]


@pytest.fixture
def some_node_cases_of_many_inputs() -> list[Case]:
    """One in twenty of these cases."""
    return CASES["node_case_of_many_inputs"]()[::20]
