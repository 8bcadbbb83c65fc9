"""Every pass that is installed keeps its promises, and so do pipelines of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import ModelProto

from onnxpress.backends.ort import OrtBackend
from onnxpress.errors import ExecutionError
from onnxpress.ir import Backend, emit, lower, verify
from onnxpress.ir.analysis.cost import cost
from onnxpress.passes.factorize.factorize import Factorize
from onnxpress.passes.graph.fold import Fold
from onnxpress.passes.manager.base import Effect
from onnxpress.passes.manager.manager import PassManager
from onnxpress.passes.manager.registry import default_registry
from onnxpress.passes.manager.text import parse_pipeline
from onnxpress.passes.prune.prune import Prune
from onnxpress.passes.quantize.quantize_insert import QuantizeInsert
from onnxpress.specs import check_pass, feeds, models
from onnxpress.specs.bits import differing
from onnxpress.specs.strategies_coupled import convolutional
from onnxpress.specs.strategies_options import passes

from .graph.spelled_out import spelled_out
from .quantize.options import integer_quantizers, quantizers

SPECIAL = {"equalize": convolutional(), "recognize": spelled_out()}
"""Passes that find little in the usual models, with models of their own."""


def with_one_goal(one: Factorize) -> Factorize:
    """At most one may be given. What lets clocks decide does not give the same bytes again."""
    goals = [name for name in ("rank", "energy", "macs", "bytes_", "error") if getattr(one, name) is not None]
    latency = "any" if one.latency == "measure" else one.latency
    return replace(one, **dict.fromkeys(goals[1:]), vbmf=one.vbmf and not goals, latency=latency)


def pruners() -> st.SearchStrategy[Prune]:
    """Of every unit, with the options that mean something for it."""
    repair = st.sampled_from(["auto", "off"])
    share = {"sparsity": st.sampled_from([0.3, 0.7]), "repair": repair}
    plain, looking = ["l1", "l2", "random"], ["wanda", "obs"]
    units = st.builds(
        Prune, unit=st.sampled_from(["channel", "head"]), align=st.sampled_from(["auto", 1, 4]),
        criterion=st.sampled_from([*plain, *looking, "geometric-median", "redundancy", "mean-activation"]), **share,
    )  # fmt: skip
    masks = st.builds(
        Prune, unit=st.sampled_from(["weight", "block"]), criterion=st.sampled_from([*plain, *looking]),
        allocation=st.sampled_from(["layer", "global"]), **share,
    )  # fmt: skip
    patterns = st.builds(
        Prune, unit=st.just("n:m"), pattern=st.sampled_from(["1:2", "2:4"]),
        criterion=st.sampled_from([*plain, *looking]), repair=repair,
    )  # fmt: skip
    layers = st.builds(Prune, unit=st.just("layer"), criterion=st.sampled_from([*plain, "output-error"]), **share)
    return st.one_of(units, masks, patterns, layers)


OPTIONS = {
    "prune": pruners(),
    "factorize": passes(Factorize).map(with_one_goal),
    "quantize-insert": st.one_of(st.just(QuantizeInsert()), quantizers(), integer_quantizers()),
}
"""Of passes with options that exclude each other."""
SLOW = {"onnxsim"}
"""Passes that start a process each time: their own tests hold them to their promises, on fewer models."""
INSIDE = "(fold,dce)"
COMBINATORS = {
    "at": "at{ops=[Constant Add Mul Shape]}",
    "fixpoint": "fixpoint",
    "guard": "guard{unequal=0}",
    "repair": "repair",
    "repeat": "repeat",
}
"""Combinators with the options that they are checked with; inside are passes that are EXACT."""


def test_no_combinator_is_forgotten() -> None:
    registry = default_registry()
    assert {name for name in registry.names() if registry.get(name).takes_pipeline} == set(COMBINATORS)


@pytest.mark.parametrize("text", COMBINATORS.values())
def test_every_combinator_keeps_the_promises_of_what_is_inside(text: str) -> None:
    (pass_,) = parse_pipeline(text + INSIDE)
    backend = OrtBackend() if pass_.needs_judge else None  # errors are measured as deployed, too: onnxruntime's alone
    checked = check_pass(pass_, backend=backend)
    assert checked.changed > 0
    assert checked.compared > checked.examples // 2


@pytest.mark.parametrize("name", [name for name in default_registry().names() if name not in {*COMBINATORS, *SLOW}])
def test_every_pass_keeps_its_promises(name: str) -> None:
    """With options of every kind; passes of no test of their own come in by being registered."""
    pass_class = default_registry().get(name)
    lossy = pass_class.effect in (Effect.LOSSY, Effect.LEARNED)
    drawn = SPECIAL.get(name, models(large=True) if lossy else None)
    checked = check_pass(OPTIONS.get(name, pass_class), models=drawn)
    assert checked.changed > 0
    assert checked.compared > checked.examples // 2
    if pass_class.effect in (Effect.ROUNDING, Effect.LOSSY):
        assert checked.judged > 0


@given(st.data())
@pytest.mark.parametrize("pipeline", ["fold,dce", "dce,fold", "fold,fold,dce", "dce,freeze-defaults,fold,dce"])
def test_pipelines_of_exact_passes_are_exact_and_never_grow_a_file(pipeline: str, data: st.DataObject) -> None:
    proto = data.draw(models())
    feed = data.draw(feeds(proto, defaults=False))
    backend: Backend = OrtBackend()
    try:
        expected = backend.prepare(lower(proto)).run(feed)
    except ExecutionError:
        assume(False)
    model = lower(proto)
    report = PassManager(pipeline, backend=backend).run(model)
    verify(model)
    after = emit(model)
    assert after.ByteSize() <= proto.ByteSize()
    assert report.after.file_bytes == after.ByteSize()
    assert report.after.cost == cost(model)
    assert not differing(expected, backend.prepare(lower(after)).run(feed))


@given(models(), st.integers(0, 2000))
def test_a_pass_with_options_is_as_deterministic_as_one_without(proto: ModelProto, limit: int) -> None:
    results = []
    for _ in range(2):
        model = lower(proto)
        PassManager([Fold(limit)], backend=OrtBackend()).run(model)  # type: ignore[arg-type]
        results.append(emit(model).SerializeToString(deterministic=True))
    assert results[0] == results[1]
