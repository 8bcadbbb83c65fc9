"""Values that a pass has scaled: what one of them is in the result, as a number of the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..passes.manager.bounds import LocalBound
from .trace import Record, slot_of


@dataclass(frozen=True)
class Scaled:
    """The statements of the form `scaled` among `bounds`, by graph and name in the result."""

    bounds: Sequence[LocalBound]

    @property
    def names(self) -> dict[tuple[str, str], str]:
        """The name in the original of each scaled value."""
        return {(bound.graph, bound.value): bound.weight for bound in self.bounds if bound.form == "scaled"}

    def add_to(self, record: Record) -> None:
        """Let a run of the original have the scaled values as well; several factors of one value are multiplied."""
        stated = [bound for bound in self.bounds if bound.form == "scaled"]
        scopes = {(label, key[0]) for key, label in record.labels.items()} if stated else set()
        for bound in stated:
            for scope in (scope for label, scope in scopes if label == bound.graph):
                value = record.find(scope, bound.weight)
                if not isinstance(value, np.ndarray) or value.ndim <= bound.axis:
                    continue
                shape = [-1 if axis == bound.axis else 1 for axis in range(value.ndim)]
                factors = bound.per_channel.reshape(shape).astype(value.dtype)
                record.values[scope, bound.value] = record.values.get((scope, bound.value), value) * factors
                record.labels[scope, bound.value] = bound.graph
                if record.varies(scope, bound.weight):
                    record.varying.add(slot_of((scope, bound.value)))
