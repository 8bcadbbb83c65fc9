"""The cache of a calibration: the statistics of values in one .npz file, with digests of the model and the data.

Statistics are kept and not ranges, so another method finds its ranges there. The file is replaced as a whole.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...atomic import write_file
from ...errors import UserError
from ...ir import Value
from ...ir.digests import data_digest, model_digest
from ..manager.context import Context, Feed
from .packing import pack, unpack
from .statistics import Statistics

_FORMAT = "onnxpress calibration 1"
_DAMAGE = (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile, zlib.error)


@dataclass
class Cache:
    """What is known of the values of one model on some data; `entries` has None for what cannot be observed."""

    path: Path
    model: str
    """Digest of the model."""
    data: str
    """Digest of the data; empty if there are none and none are known."""
    places: Mapping[Any, int]
    """By graph: its place among those of the model, which tells values of the same name apart."""
    has_data: bool
    entries: dict[str, Statistics | None] = field(default_factory=dict)
    why_empty: str = ""
    """Why nothing is known."""

    @classmethod
    def open(cls, ctx: Context, path: Path, feeds: Iterable[Feed] | None) -> Cache:
        """What `path` holds of the model of `ctx` on `feeds`; without feeds, on whatever data it was made with.

        A file of another model or other data counts as empty, which a remark says. UserError if there is something
        else in the file.
        """
        places = {graph: place for place, graph in enumerate(ctx.model.walk_graphs())}
        data = "" if feeds is None else data_digest(feeds)
        cache = cls(path, model_digest(ctx.model), data, places, feeds is not None)
        if not path.exists():
            cache.why_empty = "there is no such file yet"
            return cache
        facts, entries = _read(path)
        if facts["model"] != cache.model:
            cache.why_empty = "it was made with another model, or the same one after other passes"
        elif feeds is not None and facts["data"] != cache.data:
            cache.why_empty = "it was made with other data"
        else:
            cache.data, cache.entries = facts["data"], entries
            ctx.remarks.applied(str(path), f"statistics of {len(entries)} values taken from the cache", rule="cache")
            return cache
        if feeds is not None:
            ctx.remarks.missed(str(path), f"cache not used and made anew: {cache.why_empty}", rule="cache")
        return cache

    def missing(self, values: Sequence[Value]) -> list[Value]:
        """The values of which nothing is known."""
        return [value for value in values if self._key(value) not in self.entries]

    def require_data(self, missing: Sequence[Value]) -> None:
        """UserError if values would have to be observed and there are no data."""
        if not self.has_data:
            why = self.why_empty or f"it does not know {len(missing)} values, among them {missing[0].name!r}"
            raise UserError(f"cache {self.path}: {why}; give --data to make it")

    def keep(self, values: Sequence[Value], found: Mapping[Value, Statistics]) -> None:
        """Add what was found of `values`."""
        self.entries.update({self._key(value): found.get(value) for value in values})

    def statistics(self, values: Sequence[Value]) -> dict[Value, Statistics]:
        """What is known of `values`."""
        found = {value: self.entries[self._key(value)] for value in values}
        return {value: each for value, each in found.items() if each is not None}

    def save(self) -> None:
        """Write the file; UserError if it cannot be written."""
        facts = {"format": _FORMAT, "model": self.model, "data": self.data}
        buffer = io.BytesIO()
        save: Any = np.savez_compressed  # its stub takes no mapping whose keys might be options
        save(buffer, facts=np.array(json.dumps(facts)), **pack(self.entries))
        write_file([buffer.getbuffer()], self.path)

    def _key(self, value: Value) -> str:
        return f"{self.places[value.graph]}/{value.name}"


def _read(path: Path) -> tuple[dict[str, str], dict[str, Statistics | None]]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            facts = json.loads(str(file["facts"]))
            if facts["format"] != _FORMAT:
                raise ValueError(facts["format"])
            return facts, unpack(file)
    except _DAMAGE as error:
        raise UserError(
            f"cache {path}: this is no calibration cache of this version of onnxpress; name another file or remove it"
        ) from error
