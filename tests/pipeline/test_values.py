"""What each type of option accepts as text and in Python, and how its values are written."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Annotated, Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpress.errors import UserError
from onnxpress.passes.manager.base import Effect, Pass
from onnxpress.passes.manager.options import option, options_of
from onnxpress.passes.manager.registry import Registry
from onnxpress.passes.manager.text import Pipeline, parse_pipeline, pass_text
from onnxpress.passes.manager.units import Size, read_float, read_size, show_float, show_size
from onnxpress.passes.manager.validation import validate

from .conftest import Idle

REGISTRY = Registry(entry_points=())


class Form(StrEnum):
    CAST = "cast"
    DQ = "dq"


class Color(Enum):
    RED = 1


class Lossy(Idle):
    effect: ClassVar[Effect] = Effect.LOSSY


@REGISTRY.register
@dataclass(frozen=True)
class Prune(Lossy, Pass):
    """Set the smallest weights to zero."""

    name: ClassVar = "prune"
    tol: float = option(0.5, "stop here", unit="seconds")
    fill: float = option(0.0, "any float", nan=True)
    sparsity: float | None = option(None, "share of zeros", low=0, high=1)
    block_size: int = option(4, "rows in a block", low=1, high=16)
    align: int | Literal["auto"] = option("auto", "multiple of", low=1)
    limit: Size = option(0, "grow by this", high=2**40)
    bits: Literal[4, 8] = option(8, "width")
    method: str = option("magnitude", "how", choices=("magnitude", "random"))
    form: Form = option(Form.CAST, "spelling")
    dry: bool = option(False, "only look")
    strict: bool = option(True, "fail early")
    label: str = option("", "a note")
    only: str | None = option(None, "one node")
    nodes: tuple[str, ...] = option((), "node patterns")
    steps: tuple[float, ...] | None = option(None, "schedule", low=0, high=1)


@REGISTRY.register
@dataclass(frozen=True)
class Repeat(Lossy, Pass):
    name: ClassVar = "repeat"
    takes_pipeline: ClassVar = True
    inside: tuple[Pass, ...] = ()


def parsed(options: str) -> Any:
    (pass_,) = parse_pipeline(f"prune{{{options}}}", REGISTRY)
    return pass_


@pytest.mark.parametrize(
    ("options", "expected", "canonical"),
    [
        ("tol=1e-3", Prune(tol=1e-3), "tol=0.001"),
        ("tol=1e-05", Prune(tol=1e-05), "tol=1e-5"),
        ("tol=inf", Prune(tol=math.inf), "tol=inf"),
        ("tol=-inf", Prune(tol=-math.inf), "tol=-inf"),
        ("tol=.25", Prune(tol=0.25), "tol=0.25"),
        ("tol=+2.", Prune(tol=2.0), "tol=2"),
        ("tol=-0", Prune(tol=-0.0), "tol=-0"),
        ("tol=1e22", Prune(tol=1e22), "tol=1e22"),
        ("tol=5e-324", Prune(tol=5e-324), "tol=5e-324"),
        ("tol=0.7%", Prune(tol=0.007), "tol=0.007"),
        ("fill=-0", Prune(fill=-0.0), "fill=-0"),
        ("sparsity=30%", Prune(sparsity=0.3), "sparsity=0.3"),
        ("sparsity=100%", Prune(sparsity=1.0), "sparsity=1"),
        ("sparsity=none", Prune(), ""),
        ("block-size=+16", Prune(block_size=16), "block-size=16"),
        ("align=8", Prune(align=8), "align=8"),
        ("align=auto", Prune(), ""),
        ("limit=64MB", Prune(limit=64 * 10**6), "limit=64MB"),
        ("limit=64MiB", Prune(limit=64 * 2**20), "limit=64MiB"),
        ("limit=1kB", Prune(limit=1000), "limit=1kB"),
        ("limit=1KB", Prune(limit=1000), "limit=1kB"),
        ("limit=1.5MB", Prune(limit=1_500_000), "limit=1500kB"),
        ("limit=1023B", Prune(limit=1023), "limit=1023"),
        ("limit=0", Prune(), ""),
        ("bits=4", Prune(bits=4), "bits=4"),
        ("method=random", Prune(method="random"), "method=random"),
        ("form=dq", Prune(form=Form.DQ), "form=dq"),
        ("dry", Prune(dry=True), "dry"),
        ("dry=true", Prune(dry=True), "dry"),
        ("dry=false", Prune(), ""),
        ("strict=false", Prune(strict=False), "strict=false"),
        ('label=""', Prune(), ""),
        ('label="a \\"quoted\\" word"', Prune(label='a "quoted" word'), 'label="a \\"quoted\\" word"'),
        ("label=C:\\dir\\file", Prune(label="C:\\dir\\file"), "label=C:\\dir\\file"),
        ('label="C:\\\\my dir"', Prune(label="C:\\my dir"), 'label="C:\\\\my dir"'),
        ('label="two\\nlines"', Prune(label="two\nlines"), 'label="two\\nlines"'),
        ('label="\\u65e5本 \\ud83d\\ude00"', Prune(label="日本 \U0001f600"), 'label="日本 \U0001f600"'),
        ("label=日本", Prune(label="日本"), "label=日本"),
        ('label="#1"', Prune(label="#1"), 'label="#1"'),
        ("label=none", Prune(label="none"), "label=none"),
        ("label=1e-3", Prune(label="1e-3"), "label=1e-3"),
        ("label=30%", Prune(label="30%"), "label=30%"),
        ('only="none"', Prune(only="none"), 'only="none"'),
        ('only="a"', Prune(only="a"), "only=a"),
        ("nodes=[enc.* dec.?]", Prune(nodes=("enc.*", "dec.?")), "nodes=[enc.* dec.?]"),
        ('nodes=[ a,"b c" , d ]', Prune(nodes=("a", "b c", "d")), 'nodes=[a "b c" d]'),
        ('nodes=[""]', Prune(nodes=("",)), 'nodes=[""]'),
        ("nodes=[]", Prune(), ""),
        ("steps=[]", Prune(steps=()), "steps=[]"),
        ("steps=[10% 0.5 1]", Prune(steps=(0.1, 0.5, 1.0)), "steps=[0.1 0.5 1]"),
        ("bits = 4 , dry\n tol= 1", Prune(bits=4, dry=True, tol=1.0), "tol=1 bits=4 dry"),
    ],
)
def test_text_to_value_to_canonical_text(options: str, expected: Prune, canonical: str) -> None:
    pass_ = parsed(options)
    assert repr(pass_) == repr(expected)
    assert pass_text(pass_) == (f"prune{{{canonical}}}" if canonical else "prune")


def test_nan_only_where_it_is_allowed() -> None:
    assert math.isnan(parsed("fill=nan").fill)
    assert pass_text(parsed("fill=nan")) == "prune{fill=nan}"
    with pytest.raises(UserError, match="nan is not accepted"):
        parsed("tol=nan")


@given(st.floats())
def test_floats_keep_their_bits(value: float) -> None:
    assert repr(read_float(show_float(value))) == repr(value)


@given(st.decimals(0, 1000, places=4))
def test_a_percentage_is_the_float_nearest_to_its_hundredth(share: Any) -> None:
    assert read_float(f"{share}%") == float(share / 100)


@given(st.integers(0, 2**64))
def test_sizes_are_exact_and_never_longer_than_plain_digits(size: int) -> None:
    assert read_size(show_size(size)) == size
    assert len(show_size(size)) <= len(str(size))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("tol=fast", "'fast' is not a number"),
        ("tol=1_000", "'1_000' is not a number"),
        ("tol=٣", "is not a number"),
        ("tol=1e999", "too large for a 64-bit float"),
        ("tol=1e-999", "too small for a 64-bit float"),
        ("tol=1e9999999999", "'1e9999999999' is not a number"),
        ("tol=[1]", "one value is expected, not a list"),
        ("tol=none", "'none' is not a number"),
        ("tol=infinity", "'infinity' is not a number"),
        ("sparsity=2", "2 is above the highest value, 1"),
        ("sparsity=101%", "1.01 is above the highest value, 1"),
        ("sparsity=-1e-9", "-1e-9 is below the lowest value, 0"),
        ("block-size=0", "0 is below the lowest value, 1"),
        ("block-size=4.0", "'4.0' is not a whole number"),
        ("block-size=" + "9" * 5000, "too many digits"),
        ("block-size=" + "9" * 30, "does not fit 64 bits"),
        ("limit=64mb", "its unit must be one of B, kB, KB, MB"),
        ("limit=-1", "'-1' is not a size"),
        ("limit=0.5B", "'0.5B' is not a whole number of bytes"),
        ("limit=2TiB", "2TiB is above the highest value, 1TiB"),
        ("bits=5", "'5' is not one of the accepted values"),
        ("method=magnitud", "did you mean 'magnitude'?"),
        ("form=CAST", "did you mean 'cast'?"),
        ("dry=yes", "'yes' is neither true nor false"),
        ("nodes=enc.*", r"a list is expected, such as [enc.*]"),
        ("steps=[0.5 2]", "2 is above the highest value, 1"),
        ('label="\\ud800"', "not valid Unicode"),
        ("tol", "needs a value"),
        ("label", "needs a value"),
    ],
)
def test_bad_values_are_refused_when_parsed(options: str, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        parsed(options)
    assert problem in str(caught.value).splitlines()[0]


@pytest.mark.parametrize(
    ("pass_", "problem"),
    [
        (Prune(sparsity=2.0), "prune: option 'sparsity': 2 is above the highest value, 1; it takes none or a number"),
        (Prune(tol="1"), "'1' is not a float"),  # type: ignore[arg-type]
        (Prune(tol=True), "True is not a float"),
        (Prune(tol=2**53 + 1), "not exact as a 64-bit float"),
        (Prune(tol=10**400), "not exact as a 64-bit float"),
        (Prune(tol=math.nan), "nan is not accepted"),
        (Prune(block_size=True), "True is not an int"),
        (Prune(block_size=4.0), "4.0 is not an int"),  # type: ignore[arg-type]
        (Prune(limit=-1), "the size is negative"),
        (Prune(limit=2**70), "does not fit 64 bits"),
        (Prune(limit="1kB"), "'1kB' is not an int (bytes)"),  # type: ignore[arg-type]
        (Prune(bits=5), "5 is not one of 4, 8"),  # type: ignore[arg-type]
        (Prune(bits=8.0), "8.0 is not one of 4, 8"),  # type: ignore[arg-type]
        (Prune(form="dq"), "'dq' is not one of <Form.CAST: 'cast'>"),  # type: ignore[arg-type]
        (Prune(dry=1), "1 is neither True nor False"),  # type: ignore[arg-type]
        (Prune(label=None), "None is not a str"),  # type: ignore[arg-type]
        (Prune(label="\ud83d\ude00"), "not valid Unicode"),
        (Prune(nodes=["a"]), "['a'] is not a tuple"),  # type: ignore[arg-type]
        (Prune(nodes=("a", 1)), "1 is not a str"),  # type: ignore[arg-type]
        (Repeat((Prune(block_size=99),)), "prune: option 'block-size': 99 is above the highest value, 16"),
        (Repeat([Prune()]), "repeat: 'inside' is not a tuple of passes"),  # type: ignore[arg-type]
        (Repeat(("prune",)), "a pipeline holds passes, not 'prune'"),  # type: ignore[arg-type]
        ("prune", "a pipeline holds passes, not 'prune'"),
        (Prune, "; write Prune(...)"),
    ],
)
def test_passes_made_in_python_are_validated_too(pass_: Any, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        validate(pass_)
    assert problem in str(caught.value)
    with pytest.raises(UserError):
        Pipeline((pass_,))


def test_an_int_is_a_float_where_it_is_exact() -> None:
    pipeline = Pipeline((Prune(tol=3),))
    assert str(pipeline) == "prune{tol=3}"
    assert parse_pipeline("prune{tol=3.0}", REGISTRY) == pipeline


@pytest.mark.parametrize("levels", [100, 101])
def test_what_validates_can_be_parsed_back(levels: int) -> None:
    deep: Pass = Prune(nodes=("a",))
    for _ in range(levels):
        deep = Repeat((deep,))
    if levels > 100:
        with pytest.raises(UserError, match="deeper than 100 levels"):
            Pipeline((deep,))
    else:
        assert parse_pipeline(str(Pipeline((deep,))), REGISTRY) == Pipeline((deep,))


def test_specs_describe_the_options() -> None:
    specs = {spec.name: spec for spec in options_of(Prune)}
    assert list(specs) == [
        *("tol", "fill", "sparsity", "block-size", "align", "limit", "bits", "method"),
        *("form", "dry", "strict", "label", "only", "nodes", "steps"),
    ]
    assert {name: spec.type for name, spec in specs.items()} == {
        "tol": "a number",
        "fill": "nan or a number",
        "sparsity": "none or a number from 0 to 1",
        "block-size": "a whole number from 1 to 16",
        "align": "auto or a whole number of at least 1",
        "limit": "a size in bytes (such as 64MB) of at most 1TiB",
        "bits": "one of 4, 8",
        "method": "one of magnitude, random",
        "form": "one of cast, dq",
        "dry": "true or false",
        "strict": "true or false",
        "label": "text",
        "only": "none or text",
        "nodes": "a list [...] of text",
        "steps": "none or a list [...] of a number from 0 to 1",
    }
    tol = specs["tol"]
    assert (tol.default, tol.help, tol.unit, tol.show(0.25)) == (0.5, "stop here", "seconds", "tol=0.25")
    assert options_of(Repeat) == ()


def declare(annotation: Any, declared: Any) -> type[Pass]:
    namespace = {"name": "odd", "__annotations__": {"name": ClassVar[str], "value": annotation}, "value": declared}
    return dataclass(frozen=True)(type("Odd", (Lossy, Pass), namespace))


@pytest.mark.parametrize(
    ("annotation", "declared", "problem"),
    [
        (int, field(default=3), "'value' is not declared with option(...)"),
        (int | str, option(3, "h"), "cannot be written in a pipeline text"),
        (tuple[int, int], option((1, 2), "h"), "cannot be written in a pipeline text"),
        (dict, option(None, "h"), "cannot be written in a pipeline text"),
        (Color, option(Color.RED, "h"), "cannot be written in a pipeline text"),
        ("Missing", option(None, "h"), "cannot be evaluated"),
        (int, option("4", "h"), "the default of option 'value' is wrong: '4' is not an int"),
        (int, option(4, "h", low=5), "4 is below the lowest value, 5"),
        (float, option(math.nan, "h"), "nan is not accepted"),
        (str, option("a", "h", low=0), "low cannot limit a value of this type"),
        (int, option(4, "h", nan=True), "nan cannot limit a value of this type"),
        (int, option(4, "h", low=1, choices=(4, 8)), "low cannot limit a value of this type"),
        (float, option(4.0, "h", choices=(4, 8)), "choices cannot limit a value of this type"),
        (Literal["a", 1.5], option("a", "h"), "must be distinct values of type str or int"),
        (Literal["4", 4], option(4, "h"), "must be distinct values of type str or int"),
        (Literal[True], option(True, "h"), "must be distinct values of type str or int"),
        (str, option("a", "h", choices=()), "must be distinct values of type str"),
    ],
)
def test_what_cannot_be_an_option_is_refused(annotation: Any, declared: Any, problem: str) -> None:
    odd = declare(annotation, declared)
    with pytest.raises(UserError) as caught:
        options_of(odd)
    assert problem in str(caught.value)


def test_annotated_types_count_as_the_type_they_annotate() -> None:
    (spec,) = options_of(declare(Annotated[int, "rows"] | None, option(None, "h", low=1)))
    assert spec.type == "none or a whole number of at least 1"
