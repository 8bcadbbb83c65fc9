"""Sessions as a model is deployed: with the executor's own optimizations."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir import Backend, Model, Session


def deployed(backend: Backend, model: Model, outputs: Sequence[str] | None = None) -> Session:
    """The deployment session, or the only one of an executor that has one configuration and refuses to be asked.

    `outputs` may name any value of the main graph. ExecutionError if the executor refuses the model.
    """
    try:
        return backend.prepare(model, outputs=outputs, optimize=True)
    except ValueError:
        return backend.prepare(model, outputs=outputs)
