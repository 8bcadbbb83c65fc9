"""The threads of BLAS, which numpy starts when it loads: that takes 20 ms, and few passes multiply large matrices.

So a run loads numpy with one thread, and starts the others when it is known that a pass has work for them; on models
without a large layer the pass manager does without them all the same. Who sets one of the variables that BLAS reads is
obeyed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..passes.manager.threads import VARIABLES

if TYPE_CHECKING:
    from ..passes.manager.base import Pass

_OWN = "OPENBLAS_NUM_THREADS"


class Threads:
    """Made before numpy is loaded, in a process that is there for one run."""

    def __init__(self) -> None:
        self._held = not any(name in os.environ for name in VARIABLES)
        if self._held:
            os.environ[_OWN] = "1"

    def start_for(self, passes: Iterable[Pass]) -> None:
        """Start as many threads as there are cores if one of the passes may need them, now that numpy is loaded."""
        if not self._held:
            return
        del os.environ[_OWN]
        from ..passes.manager.base import walk_passes

        if any(inner.uses_blas for pass_ in passes for inner in walk_passes(pass_)):
            from threadpoolctl import threadpool_limits

            threadpool_limits(limits=_cores(), user_api="blas")


def _cores() -> int:
    """Those that this process may use, or where the system does not tell, all."""
    allowed = getattr(os, "sched_getaffinity", None)
    return (os.cpu_count() or 1) if allowed is None else len(allowed(0))
