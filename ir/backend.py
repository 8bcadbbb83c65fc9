"""What the passes may ask of the world that runs models: the Backend and Session protocols.

Implementations live in `onnxpress.backends`; a pass sees them only through its Context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from .model import Model


class Port(NamedTuple):
    """An input or output of a session.

    `dtype` is an `onnx.TensorProto.DataType`, None if the port is no tensor; `shape` has ints for fixed
    dimensions, names for symbols and None for unknown ones, and is None itself if the rank is unknown.
    """

    name: str
    dtype: int | None
    shape: tuple[int | str | None, ...] | None
    optional: bool = False
    """Whether a feed may leave it out (an input with a default)."""


class Outputs(NamedTuple):
    """What a model gave on each of several feeds, by name; or the executor's words if it refused the model or one."""

    runs: tuple[Mapping[str, Any], ...] = ()
    refusal: str = ""


class Session(Protocol):
    """A model made ready to run."""

    @property
    def inputs(self) -> tuple[Port, ...]:
        """The inputs, in the model's order."""
        ...

    @property
    def outputs(self) -> tuple[Port, ...]:
        """The outputs that `run` returns, in order."""
        ...

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Run once; outputs by name. Raises ExecutionError if the executor refuses the feed."""
        ...


class Backend(Protocol):
    """An executor of models."""

    @property
    def name(self) -> str:
        """The executor with its version, as reports show it."""
        ...

    def prepare(
        self, model: Model, *, outputs: Sequence[str] | None = None, optimize: bool = False, threads: int = 1
    ) -> Session:
        """Make `model` ready to run; `outputs` may name any value of the main graph.

        `optimize=False` is the reference configuration (graph optimizations and prepacking off, one thread), True the
        deployment session. Raises ExecutionError if the executor refuses the model.
        """
        ...
