"""Sessions as a model is deployed: with the executor's own optimizations."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import ExecutionError, UserError
from ...ir import Backend, Model, Session
from .mistakes import words_of


class DeploymentError(UserError, ExecutionError):
    """An executor runs a model as it is, and refuses it once it has optimized it."""


def deployed(backend: Backend, model: Model, outputs: Sequence[str] | None = None) -> Session:
    """The deployment session, or the only one of an executor that has one configuration and refuses to be asked.

    `outputs` may name any value of the main graph. ExecutionError if the executor refuses the model: DeploymentError if
    its own optimizations are what it stumbles on.
    """
    try:
        return backend.prepare(model, outputs=outputs, optimize=True)
    except ValueError:
        return backend.prepare(model, outputs=outputs)
    except ExecutionError as error:
        backend.prepare(model, outputs=outputs)
        raise DeploymentError(
            f"{backend.name} runs the model only with its graph optimizations off, so nothing can be learned of it as "
            f"it is deployed: {words_of(error)}"
        ) from error
