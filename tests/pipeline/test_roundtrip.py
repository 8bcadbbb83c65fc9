"""Every pipeline prints to text that parses back to an equal pipeline, however the text is laid out."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, ClassVar, Literal

from hypothesis import event, given, settings
from hypothesis import strategies as st

from onnxpress.passes.manager.base import Pass
from onnxpress.passes.manager.lexer import tokenize
from onnxpress.passes.manager.mistakes import PipelineError
from onnxpress.passes.manager.options import option, options_of
from onnxpress.passes.manager.registry import Registry
from onnxpress.passes.manager.text import Pipeline, parse_pipeline, pass_text
from onnxpress.passes.manager.units import Size

from .conftest import Idle

MANY = settings(max_examples=2000, deadline=None)
SOME = settings(max_examples=400, deadline=None)
REGISTRY = Registry(entry_points=())


class Form(StrEnum):
    CAST = "cast"
    DEQUANTIZE = "de-quantize"
    NONE = "none"
    ODD = 'has "quotes", and more'


@REGISTRY.register
@dataclass(frozen=True)
class Plain(Idle, Pass):
    name: ClassVar = "plain"


@REGISTRY.register
@dataclass(frozen=True)
class Everything(Idle, Pass):
    name: ClassVar = "every-thing"
    off: bool = option(False, "h")
    on: bool = option(True, "h")
    unsure: bool | None = option(None, "h")
    count: int = option(4, "h")
    seed: int | None = option(None, "h", low=0)
    bits: Literal[4, 8] = option(8, "h")
    width: int | Literal["auto", "none"] = option("auto", "h", low=1)
    mode: Literal["static", "dynamic", "none"] | None = option(None, "h")
    form: Form = option(Form.CAST, "h")
    maybe_form: Form | None = option(Form.NONE, "h")
    pick: str = option("a", "h", choices=("a", "b c", ""))
    tol: float = option(1e-3, "h")
    share: float | None = option(0.5, "h", low=0, high=1)
    free: float = option(0.0, "h", nan=True)
    limit: Size = option(0, "h")
    cap: Size | None = option(64 * 10**6, "h")
    label: str = option("", "h")
    note: str | None = option(None, "h")
    nodes: tuple[str, ...] = option((), "h")
    scales: tuple[float, ...] | None = option((1.0,), "h")
    sizes: tuple[Size, ...] = option((), "h")
    holes: tuple[str | None, ...] = option((), "h")
    grid: tuple[tuple[int, ...], ...] = option((), "h")


@REGISTRY.register
@dataclass(frozen=True)
class Fixpoint(Idle, Pass):
    name: ClassVar = "fixpoint"
    takes_pipeline: ClassVar = True
    inside: tuple[Pass, ...] = ()
    max: int = option(10, "h", low=1)


@REGISTRY.register
@dataclass(frozen=True)
class At(Idle, Pass):
    name: ClassVar = "at"
    takes_pipeline: ClassVar = True
    nodes: tuple[str, ...] = option((), "h")
    inside: tuple[Pass, ...] = ()


texts = st.one_of(
    st.text(),
    st.text(alphabet='ab.*,=(){}[]"# \\\n\t'),
    st.sampled_from(
        ["none", "true", "1e-3", "30%", "enc.*", "日本", "e\u0301", "\x7f\u2028\ufeff", "C:\\x", "\U0001f600"]
    ),
)
floats = st.floats(allow_nan=False)
sizes = st.one_of(
    st.integers(0, 2**64 - 1),
    st.builds(lambda n, unit: n * unit, st.integers(0, 999), st.sampled_from([10**3, 10**6, 10**12, 2**10, 2**30])),
)


def tuples(elements: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(elements, max_size=3).map(tuple)


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "off": st.booleans(),
    "on": st.booleans(),
    "unsure": st.none() | st.booleans(),
    "count": st.integers(-(2**63), 2**64 - 1),
    "seed": st.none() | st.integers(0, 2**32),
    "bits": st.sampled_from([4, 8]),
    "width": st.sampled_from(["auto", "none"]) | st.integers(1, 2**64 - 1),
    "mode": st.sampled_from([None, "static", "dynamic", "none"]),
    "form": st.sampled_from(Form),
    "maybe_form": st.none() | st.sampled_from(Form),
    "pick": st.sampled_from(["a", "b c", ""]),
    "tol": floats,
    "share": st.none() | st.floats(0, 1),
    "free": st.floats(),
    "limit": sizes,
    "cap": st.none() | sizes,
    "label": texts,
    "note": st.none() | texts,
    "nodes": tuples(texts),
    "scales": st.none() | tuples(floats),
    "sizes": tuples(sizes),
    "holes": tuples(st.none() | texts),
    "grid": tuples(tuples(st.integers(-9, 9))),
}


def test_a_value_is_drawn_for_every_option() -> None:
    assert set(VALUES) == {f.name for f in fields(Everything)}


@st.composite
def everything(draw: st.DrawFn) -> Everything:
    chosen = draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=4, unique=True))
    return Everything(**{name: draw(VALUES[name]) for name in chosen})


leaves = st.just(Plain()) | everything()


def combinators(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    insides = st.lists(inner, max_size=2).map(tuple)
    return st.builds(Fixpoint, inside=insides, max=st.integers(1, 99)) | st.builds(
        At, inside=insides, nodes=tuples(texts)
    )


passes = leaves
for _ in range(4):
    passes = leaves | leaves | combinators(passes)
pipelines = tuples(passes).map(Pipeline)
blanks = st.sampled_from(["", " ", "\n", "\r\n", "\t ", "  # a note, with {marks}\n"])


def values_of(pass_: Pass) -> list[str]:
    """Types and bits of all options: what `==` on floats would hide."""
    return [repr(getattr(pass_, spec.field)) for spec in options_of(type(pass_))]


@MANY
@given(pipelines)
def test_text_parses_back(pipeline: Pipeline) -> None:
    text = str(pipeline)
    event("nested" if "(" in text else "flat")
    parsed = parse_pipeline(text, REGISTRY)
    assert parsed == pipeline
    assert hash(parsed) == hash(pipeline)
    assert str(parsed) == text
    assert text.isprintable()


@MANY
@given(everything())
def test_every_value_survives_with_its_type_and_bits(before: Everything) -> None:
    (after,) = parse_pipeline(pass_text(before), REGISTRY)
    assert values_of(after) == values_of(before)


@SOME
@given(pipelines, st.data())
def test_layout_does_not_matter(pipeline: Pipeline, data: st.DataObject) -> None:
    text = str(pipeline)
    spread = ""
    for token in tokenize(text):
        blank = data.draw(blanks)
        spread += blank or (" " if token.spaced else "")
        spread += text[token.start : token.end]
    assert parse_pipeline(spread, REGISTRY) == pipeline


@SOME
@given(pipelines)
def test_commas_may_separate_options_and_elements(pipeline: Pipeline) -> None:
    text = str(pipeline)
    with_commas = ""
    for token in tokenize(text):
        with_commas += (", " if token.spaced and token.start else "") + text[token.start : token.end]
    assert parse_pipeline(with_commas, REGISTRY) == pipeline


@MANY
@given(st.one_of(st.text(), st.text(alphabet=st.characters()), st.text(alphabet='ab1%.-,=(){}[]"#\\ \n')))
def test_any_text_parses_or_is_a_pipeline_error(text: str) -> None:
    assert_parses_or_explains(text)


@SOME
@given(pipelines, st.data())
def test_damaged_text_parses_or_is_a_pipeline_error(pipeline: Pipeline, data: st.DataObject) -> None:
    text = str(pipeline)
    at = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 3))
    patch = data.draw(st.text(alphabet='ab1%,=(){}[]"#\\ \n', max_size=3))
    assert_parses_or_explains(text[:at] + patch + text[at + cut :])


def assert_parses_or_explains(text: str) -> None:
    try:
        pipeline = parse_pipeline(text, REGISTRY)
    except PipelineError as error:
        event("refused")
        problem, shown, caret, *_ = str(error).splitlines()
        assert problem.isprintable()
        assert shown.isprintable()
        assert caret.strip("~ ") == "^"
    else:
        event("parsed")
        assert parse_pipeline(str(pipeline), REGISTRY) == pipeline


def test_equality_tells_values_classes_and_nesting_apart() -> None:
    @dataclass(frozen=True)
    class Twin(Idle, Pass):
        name: ClassVar = "plain"

    nan = Pipeline((Everything(free=math.nan),))
    assert nan == Pipeline((Everything(free=float("nan")),))
    assert nan != Pipeline((Everything(),))
    assert Pipeline((Everything(free=-0.0),)) != Pipeline((Everything(free=0.0),))
    assert Pipeline((Plain(),)) != Pipeline((Twin(),))
    assert Pipeline((Fixpoint((Plain(),)),)) != Pipeline((Fixpoint(), Plain()))
    assert Pipeline((Plain(),)) != "plain"


def test_a_pipeline_is_a_sequence_of_passes() -> None:
    pipeline = parse_pipeline("plain,fixpoint(plain),plain", REGISTRY)
    assert len(pipeline) == 3
    assert pipeline[1] == Fixpoint((Plain(),))
    assert pipeline[1:] == Pipeline((Fixpoint((Plain(),)), Plain()))
    assert list(pipeline) == [Plain(), Fixpoint((Plain(),)), Plain()]
    assert Pipeline() == parse_pipeline(" # nothing\n", REGISTRY)
    assert str(Pipeline()) == ""
