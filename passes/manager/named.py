"""Named pipelines: texts that stand for their passes, from code, from the user's project, and from distributions."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import UserError
from .foreign import foreign_code
from .installed import installed_entry_points
from .lexer import is_word
from .mistakes import one_line

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "onnxpress.pipelines"
"""The entry-point group of named pipelines: `module:attribute` of a str."""
OWN_FILE = ".onnxpress.toml"
PROJECT_FILE = "pyproject.toml"


class NamedPipeline(NamedTuple):
    """A name for a pipeline text; `source` says where it was found, for people."""

    name: str
    text: str
    source: str


class Pipelines:
    """Finds named pipelines: first those registered in code, then those of the project, then those of distributions.

    The project's are in the nearest folder, from `start` upwards, that has an `.onnxpress.toml` with a table
    `[pipelines]` or a `pyproject.toml` with `[tool.onnxpress.pipelines]`. Nothing is read before a name is looked up.
    """

    def __init__(self, entry_points: Iterable[EntryPoint] | None = None, start: Path | None = None) -> None:
        self._given = None if entry_points is None else tuple(entry_points)
        self._start = start
        self._registered: dict[str, NamedPipeline] = {}

    def register(self, name: str, text: str) -> None:
        """Name a pipeline text from now on; UserError if it is no name, or stands for another text already."""
        known = self._registered.get(name)
        if not is_word(name) or (known is not None and known.text != text):
            why = "is no word of pipeline text" if known is None else f"stands for {known.text!r} already"
            raise UserError(f"the pipeline name {name!r} {why}")
        self._registered[name] = NamedPipeline(name, text, "this session")

    def names(self) -> tuple[str, ...]:
        """All names in alphabetical order."""
        return tuple(sorted({*self._registered, *self._project, *self._claims}))

    def get(self, name: str) -> NamedPipeline | None:
        """The pipeline called `name`, None if there is none; UserError if it cannot be used, or two own it."""
        found = self._registered.get(name) or self._project.get(name)
        return found if found is not None or name not in self._claims else self._installed(name)

    def _installed(self, name: str) -> NamedPipeline:
        claims = {claim.value: claim for claim in self._claims[name]}
        owners = [f"{_distribution(claim)} ({claim.value})" for claim in claims.values()]
        if len(owners) > 1:
            raise UserError(f"the pipeline name {name!r} belongs to {' and to '.join(owners)}; remove one")
        try:
            with foreign_code():
                text = next(iter(claims.values())).load()
        except Exception as error:  # whatever a plugin does must not take the tool down
            raise UserError(f"pipeline {name!r} of {owners[0]} cannot be used: {one_line(error)}") from error
        if not isinstance(text, str):
            raise UserError(f"pipeline {name!r} of {owners[0]} cannot be used: {text!r} is no text")
        return NamedPipeline(name, text, owners[0])

    @cached_property
    def _claims(self) -> dict[str, list[EntryPoint]]:
        if self._given is None:
            self._given = installed_entry_points(GROUP)
        claims: dict[str, list[EntryPoint]] = {}
        for entry_point in self._given:
            claims.setdefault(entry_point.name, []).append(entry_point)
        return claims

    @cached_property
    def _project(self) -> dict[str, NamedPipeline]:
        return {one.name: one for one in _of_project(self._start or Path.cwd())}


def _distribution(entry_point: EntryPoint) -> str:
    return (entry_point.dist and entry_point.dist.name) or "an unnamed distribution"


def _of_project(start: Path) -> Iterator[NamedPipeline]:
    """The pipelines of the nearest folder that names some."""
    for folder in (start, *start.parents):
        for file, keys in ((folder / OWN_FILE, ("pipelines",)), (folder / PROJECT_FILE, _PROJECT_KEYS)):
            table = _table(file, keys) if file.is_file() else None
            if table is not None:
                for name, text in table.items():
                    yield _checked(name, text, file)
                return


_PROJECT_KEYS = ("tool", "onnxpress", "pipelines")


def _table(file: Path, keys: tuple[str, ...]) -> dict[str, Any] | None:
    import tomllib

    try:
        found: Any = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{file}: {error}") from None
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    if found is not None and not isinstance(found, dict):
        raise UserError(f"{file}: [{'.'.join(keys)}] must be a table of names and pipeline texts")
    return found


def _checked(name: str, text: object, file: Path) -> NamedPipeline:
    if not is_word(name) or not isinstance(text, str):
        why = "is no word of pipeline text" if not is_word(name) else "must be a pipeline text in quotes"
        raise UserError(f"{file}: the pipeline {name!r} {why}")
    return NamedPipeline(name, text, str(file))


@cache
def installed_pipelines() -> Pipelines:
    """The one collection of this process, which `register_pipeline` adds to."""
    return Pipelines()


def register_pipeline(name: str, text: str) -> None:
    """Let `name` stand for the pipeline `text` in this process; UserError if a pass is called so."""
    from .registry import default_registry

    if name in default_registry().names():
        raise UserError(f"{name!r} is the name of a pass, of {default_registry().owner(name)}: choose another")
    installed_pipelines().register(name, text)


def text_of(argument: str) -> str:
    """The pipeline text that a command was given: itself, or for `@FILE` what the file holds (`@-`: stdin)."""
    if not argument.startswith("@"):
        return argument
    try:
        return sys.stdin.read() if argument == "@-" else Path(argument[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "is no UTF-8 text"
        raise UserError(f"-p {argument}: {why}") from None
