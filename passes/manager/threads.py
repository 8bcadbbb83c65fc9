"""Threads of BLAS: several pay where matrices are large; where they are small they wait for each other most of the
time, and the longer the more else the machine has to do."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...ir import Model
    from .base import Pass

VARIABLES = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
"""What BLAS reads when it is loaded; who sets one of them is obeyed."""
LARGE = 4096
"""Inputs of a layer from which several threads pay: second moments and what is solved with them are matrices of so many
rows and columns. Beside other work two threads took more than four times the CPU time of one over 1,536 inputs."""


@contextmanager
def no_more_than_pay(passes: Iterable[Pass], model: Model) -> Iterator[None]:
    """One thread, unless passes multiply matrices and a layer of the model is large. It depends on these alone, since
    another number of threads adds in another order."""
    from .base import walk_passes

    multiply = any(inner.uses_blas for pass_ in passes for inner in walk_passes(pass_))
    if not multiply or any(name in os.environ for name in VARIABLES) or _is_large(model):
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield


def _is_large(model: Model) -> bool:
    from ...ir.analysis.linear import all_linear_layers

    return any(layer.k >= LARGE for layer in all_linear_layers(model))
