"""The entry points of the installed distributions, read in one walk over all of them for every group."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from ...errors import UserError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints


def installed_entry_points(group: str) -> tuple[EntryPoint, ...]:
    """Those of a group. UserError if what is installed cannot be read."""
    try:
        return tuple(_on(tuple(sys.path)).select(group=group))
    except Exception as error:  # the metadata of any distribution may be broken
        raise UserError(f"the entry points of the installed packages cannot be read: {error}") from error


@lru_cache(maxsize=1)
def _on(path: tuple[str, ...]) -> EntryPoints:
    """All that the folders of the path hold, as long as it is this one."""
    import importlib.metadata  # slow to import, and not needed before a name is looked up

    found: Any = importlib.metadata.entry_points()  # of another type in each of the versions that are supported
    return cast("EntryPoints", found)
