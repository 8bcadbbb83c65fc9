"""A text that is wrong is the user's mistake, shown with its place: nothing else ever comes out of the parser."""

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpress.errors import UserError
from onnxpress.ir.text import TextError, parse, print_model

SAMPLE = """\
ir_version = 10  opset = 17  opset my.domain = 1  doc "x"  meta "a" = "b"  extra { training_info { } }
graph main {
  in %c: bool[]  in %x: f32[n,?,"2*n"] doc "d"  info %y: map(i64,seq(optional(sparse(f32[...]))))
  default %x = f32[2] float_data [0x1p+0 0x7fc00001]  const %k = i4[3] [-8 0 7] (doc "q")
  sparse %s = [3] values f32[1] [inf] indices i64[1] [2] @i
  %y = If(%c) {
    then_branch=graph t { %t, _ = my.domain::Any:wide(%x, _) {a=0x1p-1 b=ints [] c="s" d=b"\\xff" e=str[] "s" @n}
    out %t }
    else_branch=graph { %e = Any() {a=type_proto proto {denotation: "D"} b=tensors [u8[1] none] c=(float) d=[1 2]}
    out %e }
  } @cond  meta "k" = "v"
  out %y
}
function my.domain::Any:wide { opset = 17  attr a  attr b=1.5  in %p  %q = F(%p) {a=float $a}  out %q }
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo", "line 1, column 1: one of these is expected"),
        ("graph g {\n  in %x: f32[3\n}", "line 3, column 1: a dimension, a name or '?' is expected"),
        ("graph g {\n  %y Conv(%x)\n}", "line 2, column 6: '=', '_' or '%' is expected"),
        ("graph g { %y = Relu(%x) {a=[]} }", "line 1, column 28: an empty list says of what"),
        ("graph g { %y = Relu(%x) {a=[1 q]} }", "line 1, column 31: ']' is expected after strings or numbers"),
        ("graph g { const %w = f32[2] [1.0] }", "line 1, column 29: the shape needs 2 elements, here are 1"),
        ("graph g { const %w = i8[2] [1 200] }", "line 1, column 31: an element is a whole number from -128 to 127"),
        ("graph g { const %w = f16[] 1e9 }", "line 1, column 28: 1e9 is no value of float16"),
        ("graph g { const %w = f8e4m3fn[] 1.01 }", "line 1, column 33: 1.01 is no value of float8e4m3fn"),
        ("graph g { const %w = f32[] 0x123456789 }", "0x123456789 has more than the 32 bits of float"),
        ("graph g { in %x: float[3] }", "line 1, column 18: 'float' is no element type"),
        ('graph "\\q" {}', "line 1, column 7: '\\\\q' is no escape of a string"),
        ('graph "\\ud800" {}', "line 1, column 7: '\\\\ud800' is no escape of a string"),
        ("graph \ud800", "line 1, column 7: half of a surrogate pair is no character"),
        ("extra { foo: 1 }", "line 1, column 7: this is no ModelProto"),
        ('extra "!"', "line 1, column 7: this is no ModelProto in base64"),
        ("extra { graph {", "line 1, column 7: this '{' is never closed"),
        ("ir_version = 99999999999999999999", "ir_version is a whole number from"),
        ("graph g { %y = A() meta 1 }", "line 1, column 25: a key in quotes is expected"),
        ("graph g {} graph h {}", "line 1, column 12: one of these is expected"),
        ("graph g { out %y }", "the output 'y' of graph 'g' is defined by nothing"),
        ("graph g { in %x: " + "seq(" * 100, "nested more than 64 deep"),
        ("graph g { " + "%y = If() {b=graph { " * 100, "nested more than 64 deep"),
        ("extra " + "{ graph " * 100, "braces are nested too deep"),
        ("ir_version = " + "9" * 9999, "ir_version is a whole number from"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(text)
    assert str(caught.value).startswith(message) or f": {message}" in str(caught.value)


def test_an_empty_text_is_an_empty_model() -> None:
    assert print_model(parse("# nothing"), full=True) == "\n"


def test_a_caret_shows_the_place() -> None:
    with pytest.raises(TextError) as caught:
        parse("graph g {\n  in %x: f33[2]\n}")
    assert str(caught.value).splitlines()[1:] == ["    in %x: f33[2]", "           ^"]


PIECES = [
    *re.findall(r"\s+|[\w.%@$]+|.", SAMPLE),
    "...",
    "0x1e9",
    "1e999",
    "nan",
    "\\",
    "\0",
    "\u2028",
    "none",
    "proto",
]


def test_the_sample_is_right() -> None:
    printed = print_model(parse(SAMPLE), full=True)
    assert print_model(parse(printed), full=True) == printed


@given(st.lists(st.sampled_from(PIECES), max_size=30), st.integers(0, len(SAMPLE)), st.integers(0, 20))
def test_garbage_is_a_user_error(pieces: list[str], place: int, gone: int) -> None:
    for text in (SAMPLE[:place] + "".join(pieces) + SAMPLE[place + gone :], "".join(pieces)):
        try:
            model = parse(text)
        except UserError:
            continue
        printed = print_model(model, full=True)
        assert print_model(parse(printed), full=True) == printed


@given(st.text())
def test_any_characters_are_a_user_error(text: str) -> None:
    with suppress(UserError):
        parse(text)
