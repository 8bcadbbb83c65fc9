"""The messages for wrong pipeline text, word for word."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from textwrap import dedent
from typing import ClassVar, Literal

import pytest

from onnxpress.errors import UserError
from onnxpress.passes.manager.base import Pass
from onnxpress.passes.manager.mistakes import PipelineError
from onnxpress.passes.manager.options import option
from onnxpress.passes.manager.registry import Registry
from onnxpress.passes.manager.text import parse_pipeline

from .conftest import Idle

REGISTRY = Registry(entry_points=())


@REGISTRY.register
@dataclass(frozen=True)
class Fold(Idle, Pass):
    name: ClassVar = "fold"


@REGISTRY.register
@dataclass(frozen=True)
class Prune(Idle, Pass):
    name: ClassVar = "prune"
    sparsity: float | None = option(None, "h", low=0, high=1)
    mode: Literal["static", "dynamic"] = option("static", "h")
    nodes: tuple[str, ...] = option((), "h")


@REGISTRY.register
@dataclass(frozen=True)
class Fixpoint(Idle, Pass):
    name: ClassVar = "fixpoint"
    takes_pipeline: ClassVar = True
    inside: tuple[Pass, ...] = ()
    max: int = option(10, "h", low=1)


@REGISTRY.register
@dataclass(frozen=True)
class Picky(Idle, Pass):
    name: ClassVar = "picky"
    rank: int | None = option(None, "h")
    energy: float | None = option(None, "h")

    def __post_init__(self) -> None:
        if self.rank is not None and self.energy is not None:
            raise ValueError("give rank or energy,\nnot both")
        if self.rank == 0:
            raise ZeroDivisionError("division by zero")


def message(text: str) -> str:
    with pytest.raises(PipelineError) as caught:
        parse_pipeline(text, REGISTRY)
    assert isinstance(caught.value, UserError)
    assert caught.value.exit_code == 2
    return str(caught.value)


GOLDEN = r"""
unknown pass 'prun'; did you mean 'prune'?
  fold,prun{sparsity=0.5}
       ^~~~
  passes: fixpoint, fold, picky, prune

unknown pass 'FOLD'; did you mean 'fold'?
  FOLD
  ^~~~
  passes: fixpoint, fold, picky, prune

unknown pass 'zzz'
  fixpoint(zzz)
           ^~~
  passes: fixpoint, fold, picky, prune

unknown option 'sparsty' of prune; did you mean 'sparsity'?
  prune{sparsty=0.5}
        ^~~~~~~
  options: sparsity, mode, nodes

unknown option 'x' of fold
  fold{x}
       ^
  fold takes no options

option 'mode' of prune is given twice
  prune{mode=static mode=dynamic}
                    ^~~~

option 'mode' of prune: 'dinamic' is not one of the accepted values; did you mean 'dynamic'?
  prune{mode=dinamic}
             ^~~~~~~
  mode takes one of static, dynamic

option 'mode' of prune needs a value
  prune{mode}
        ^~~~
  mode takes one of static, dynamic

option 'sparsity' of prune: 'half' is not a number
  prune{sparsity=half}
                 ^~~~
  sparsity takes none or a number from 0 to 1

option 'sparsity' of prune: 1.5 is above the highest value, 1
  prune{sparsity=150%}
                 ^~~~
  sparsity takes none or a number from 0 to 1

option 'sparsity' of prune: one value is expected, not a list
  prune{sparsity=[0.5 0.7]}
                 ^~~~~~~~~
  sparsity takes none or a number from 0 to 1

option 'nodes' of prune: a list is expected, such as [enc.*]
  prune{nodes=enc.*}
              ^~~~~
  nodes takes a list [...] of text

option 'max' of fixpoint: 0 is below the lowest value, 1
  fixpoint{max=0}(fold)
               ^
  max takes a whole number of at least 1

fixpoint needs passes in parentheses, as in fixpoint(...)
  fold,fixpoint{max=3}
       ^~~~~~~~

fold takes no passes in parentheses
  fold(prune)
      ^

picky does not accept these options: give rank or energy, not both
  fold,picky{rank=1 energy=0.5}
       ^~~~~

picky does not accept these options: ZeroDivisionError: division by zero
  picky{rank=0}
  ^~~~~

trailing comma: nothing follows it
  fold,
      ^

trailing comma: nothing follows it
  fixpoint(fold,)
               ^

trailing comma: nothing follows it
  prune{mode=static,}
                   ^

trailing comma: nothing follows it
  prune{nodes=[a,]}
                ^

expected the name of a pass, found ','
  fold,,prune
       ^

expected ',' or the end of the text, found 'prune'
  fold prune
       ^~~~~

expected ',' or the end of the text, found ')'
  fold)
      ^

expected ',' or ')', found '}'
  fixpoint(fold}
               ^

expected ',' or the end of the text, found '{'
  fixpoint(fold){max=3}
                ^
  an item is written name{options}(pipeline), in this order

expected the name of a pass, found '{'
  {max=3}
  ^
  an item is written name{options}(pipeline), in this order

expected the name of an option, found '('
  prune{nodes=[a] x=enc(0)}
                       ^
  a value with white space or any of , = ( ) { } [ ] " # is written in double quotes

expected the name of an option, found 'mode'
  prune{"mode"=static}
        ^~~~~~

expected a value, found '}'
  prune{mode=}
             ^

expected a value, found the end of the text
  prune{mode=
             ^

expected white space or a comma, found 'b'
  prune{nodes=["a"b]}
                  ^

expected white space or a comma, found '['
  prune{nodes=[x[0]]}
                ^
  a value with white space or any of , = ( ) { } [ ] " # is written in double quotes

'(' is never closed
  fixpoint(fold
          ^

'{' is never closed
  prune{mode=static
       ^

'[' is never closed
  prune{nodes=[a b
              ^

the string is never closed
  prune{nodes=["a b]}
               ^
  a string ends on its line; a line break in it is written \n, a quote \"

'\\' is not allowed here in a string
  prune{nodes=["C:\dir"]}
                  ^
  strings are JSON strings: a backslash is written \\, a tab \t

unexpected '#' in a word
  fold#1
      ^
  a comment begins after white space; a word with '#' must be quoted
"""


@pytest.mark.parametrize("golden", [case.strip("\n") for case in GOLDEN.split("\n\n")])
def test_message(golden: str) -> None:
    text = golden.splitlines()[1].removeprefix("  ")
    assert message(text) == golden


def test_a_place_in_many_lines() -> None:
    text = "# first\nfold,\r\n\tprune{\n\tmode=static\tsparsty=3 # here\n}\n"
    expected = """\
        unknown option 'sparsty' of prune; did you mean 'sparsity'? (line 4)
           mode=static sparsty=3 # here
                       ^~~~~~~
          options: sparsity, mode, nodes"""
    assert message(text) == dedent(expected)


def test_a_list_over_lines_is_marked_on_its_first() -> None:
    text = "prune{sparsity=[1\n  2]}"
    assert message(text).splitlines()[1:3] == ["  prune{sparsity=[1", "                 ^~"]


def test_the_end_of_many_lines() -> None:
    assert message("fold\n,prune{mode=\n").splitlines()[:3] == [
        "expected a value, found the end of the text (line 3)",
        "  ",
        "  ^",
    ]


def test_wide_and_combining_characters_keep_the_caret_in_its_column() -> None:
    assert message("prune{nodes=[日本 e\u0301] mod=x}").splitlines()[1:3] == [
        "  prune{nodes=[日本 e\u0301] mod=x}",
        "                       ^~~",
    ]


def test_control_characters_are_not_printed() -> None:
    assert message("fold\x1b[31m").splitlines() == [
        "unexpected character U+001B",
        "  fold\N{REPLACEMENT CHARACTER}[31m",
        "      ^",
    ]


@pytest.mark.parametrize("character", ["\ud800", "\ufeff", "\x00", "\ue000"])
def test_unprintable_characters_have_to_be_written_as_escapes(character: str) -> None:
    assert message(f"fold{character}").startswith(f"unexpected character U+{ord(character):04X}\n")
    assert character not in message(f'prune{{mode="{character}"')


def test_a_long_line_is_shown_around_the_place() -> None:
    text = ",".join(["fold"] * 100 + ["fald"] + ["fold"] * 100)
    _, shown, caret, _ = message(text).splitlines()
    assert shown.startswith("  ...")
    assert shown.endswith("...")
    assert len(shown) <= 110
    assert shown[caret.index("^") :].startswith("fald")
    assert caret.strip() == "^~~~"


def test_a_long_word_is_cut() -> None:
    problem, shown, caret, _ = message("x" * 10_000).splitlines()
    assert max(map(len, (problem, shown, caret))) <= 110


def test_deep_nesting_is_refused() -> None:
    assert message("fixpoint(" * 5000).startswith("brackets nest deeper than 100 levels\n")
    assert message("prune{nodes=" + "[" * 5000).startswith("brackets nest deeper than 100 levels\n")


def test_the_error_survives_pickling() -> None:
    with pytest.raises(PipelineError) as caught:
        parse_pipeline("fold,", REGISTRY)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
