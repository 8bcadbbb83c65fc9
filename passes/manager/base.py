"""What a pass is: a frozen dataclass whose fields are its options, with a declared effect."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from ...ir import Graph
    from .context import Context


class Effect(StrEnum):
    """The numerical promise of a pass; `specs/numerics.md` defines each."""

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
    effect: ClassVar[Effect]
    scope: ClassVar[Literal["graph", "model"]] = "model"
    keeps_interface: ClassVar[bool] = True
    idempotent: ClassVar[bool] = True
    takes_pipeline: ClassVar[bool] = False
    """Whether the pass is a combinator: it then has a field `inside: tuple[Pass, ...]`, written `name{...}(a,b)`."""

    @abstractmethod
    def run(self, graph: Graph, ctx: Context) -> None:
        """Rewrite `graph` through `ctx.rewriter`; say what was done and what was not through `ctx.remarks`."""
