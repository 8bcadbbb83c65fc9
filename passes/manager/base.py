"""What a pass is: a frozen dataclass whose fields are its options, with a declared effect."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from ...ir import Graph
    from .context import Context


class Effect(StrEnum):
    """The numerical promise of a pass, from the strongest to the weakest; `specs/numerics.md` defines each."""

    EXACT = "EXACT"
    ROUNDING = "ROUNDING"
    LOSSY = "LOSSY"
    LEARNED = "LEARNED"


@dataclass(frozen=True)
class Pass(ABC):
    """A transformation of a model.

    The first line of a pass's docstring is its summary on the command line. Its dataclass fields, made with `option`,
    are its options in the pipeline text. `scope="graph"` runs it on the main graph, every subgraph and every function
    body, outermost first; `scope="model"` runs it once, on the main graph.
    """

    name: ClassVar[str]
    """A word of pipeline text, the same in the entry point."""
    effect: ClassVar[Effect]
    """What it promises of the numbers."""
    scope: ClassVar[Literal["graph", "model"]] = "model"
    """Whether it runs once, or on every graph."""
    keeps_interface: ClassVar[bool] = True
    """Whether inputs and outputs keep names, order and types."""
    idempotent: ClassVar[bool] = True
    """Whether running it again changes nothing."""
    takes_pipeline: ClassVar[bool] = False
    """Whether the pass is a combinator: it then has a field `inside: tuple[Pass, ...]`, written `name{...}(a,b)`.

    It promises what the passes inside promise; its own `effect` says what it adds, as a rule EXACT (nothing)."""
    needs_judge: ClassVar[bool] = False
    """Whether it decides by measuring (`ctx.measurements`): then errors are measured though nobody asked for them."""
    uses_blas: ClassVar[bool] = True
    """Whether it may multiply matrices so large that several threads pay; `onnxpress run` starts them only then."""

    @property
    def must_change(self) -> bool:
        """Whether it is a failure to find nothing to do, as where a share was to go; a limit may allow nothing. What
        passes that it runs do, as `fold`, does not count."""
        return False

    @abstractmethod
    def run(self, graph: Graph, ctx: Context) -> None:
        """Rewrite `graph` through `ctx.rewriter`; say what was done and what was not through `ctx.remarks`."""


def walk_passes(pass_: Pass) -> Iterator[Pass]:
    """A pass and all passes inside it, at any depth."""
    yield pass_
    for inner in getattr(pass_, "inside", ()) if pass_.takes_pipeline else ():
        yield from walk_passes(inner)


def effect_of(pass_: Pass) -> Effect:
    """The weakest promise of a pass and those inside it."""
    order = list(Effect)
    return max((inner.effect for inner in walk_passes(pass_)), key=order.index)


def keeps_interface(pass_: Pass) -> bool:
    """Whether a pass and those inside it leave inputs and outputs as they are."""
    return all(inner.keeps_interface for inner in walk_passes(pass_))


def is_idempotent(pass_: Pass) -> bool:
    """Whether running a pass again changes nothing: never certain of several passes that run one after the other."""
    inside = list(walk_passes(pass_))
    return all(inner.idempotent for inner in inside) and sum(not inner.takes_pipeline for inner in inside) <= 1
