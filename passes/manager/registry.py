"""The passes that can be named: those of installed distributions, imported when used, and those of this run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ...errors import UserError, did_you_mean
from .base import Pass, walk_passes
from .foreign import foreign_code
from .installed import installed_entry_points
from .mistakes import one_line, quoted
from .validation import checked_pass_class

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "onnxpress.passes"
"""The entry-point group that a distribution lists its passes in, the built-in ones too."""

P = TypeVar("P", bound=Pass)


class _Candidate(NamedTuple):
    """A claim to a name, and the way to the class behind it."""

    target: str
    """`module:qualified name` of the class."""
    load: Callable[[], object]
    distribution: Callable[[], str]
    """Called only for messages, as it reads the distribution's metadata."""

    @property
    def owner(self) -> str:
        return f"{self.distribution()} ({self.target})"


class Registry:
    """Finds pass classes by name.

    `Registry()` knows the entry points of the installed distributions; `Registry(entry_points)` knows those alone.
    Nothing is imported before it is asked for, and then only that one. A pass that cannot be used (two owners of one
    name, a failing import, not a pass) is an error when it is asked for, and harms no other.
    """

    def __init__(self, entry_points: Iterable[EntryPoint] | None = None) -> None:
        self._given = None if entry_points is None else tuple(entry_points)
        self._registered: dict[str, _Candidate] = {}

    def names(self) -> tuple[str, ...]:
        """All names in alphabetical order, those that cannot be used included."""
        return tuple(sorted({*self._installed, *self._registered}))

    def get(self, name: str) -> type[Pass]:
        """The class called `name`; UserError if there is none, or two, or one that cannot be used."""
        candidate = self._candidate(name)
        try:
            with foreign_code():
                loaded = candidate.load()
            pass_class = checked_pass_class(loaded)
            if pass_class.name != name:
                raise UserError(f"the class calls itself {pass_class.name!r}")
        except Exception as error:  # whatever a plugin does must not take the tool down
            raise UserError(f"pass {name!r} of {candidate.owner} cannot be used: {one_line(error)}") from error
        return pass_class

    def summary(self, name: str) -> str:
        """The first line of the class's own docstring; empty if it has none. Errors as `get`."""
        pass_class = self.get(name)
        doc = (pass_class.__doc__ or "").strip()
        made_by_dataclass = doc.startswith(f"{pass_class.__name__}(")
        return "" if made_by_dataclass else doc.partition("\n")[0]

    def owner(self, name: str) -> str:
        """`distribution (module:class)`, without importing it; UserError if there is none, or two."""
        return self._candidate(name).owner

    def problems(self) -> list[str]:
        """One line for each name that cannot be used. Imports every pass."""
        return [problem for name in self.names() if (problem := self._problem(name))]

    def register(self, pass_class: type[P]) -> type[P]:
        """Add a class at run time; UserError if it is no usable pass or its name belongs to another class.

        A class with the module and qualified name of the owner replaces it, as when a notebook cell runs again.
        """
        checked_pass_class(pass_class)
        target = f"{pass_class.__module__}:{pass_class.__qualname__}"
        candidate = _Candidate(target, lambda: pass_class, lambda: "this session")
        others = [other for other in self._claims(pass_class.name) if other.target != target]
        if others:
            raise UserError(_clash(pass_class.name, [*others, candidate]))
        self._registered[pass_class.name] = candidate
        return pass_class

    def _problem(self, name: str) -> str | None:
        try:
            self.get(name)
        except UserError as error:
            return str(error)
        return None

    def _candidate(self, name: str) -> _Candidate:
        claims = self._claims(name)
        if not claims:
            raise UserError(f"unknown pass {quoted(name)}{did_you_mean(name, self.names())}")
        if len(claims) > 1:
            raise UserError(_clash(name, claims))
        return claims[0]

    def _claims(self, name: str) -> list[_Candidate]:
        """Who claims `name`: a class of this run hides the entry point that names the same class."""
        registered = self._registered.get(name)
        installed = self._installed.get(name, [])
        if registered is None:
            return installed
        return [registered, *(claim for claim in installed if claim.target != registered.target)]

    @cached_property
    def _installed(self) -> dict[str, list[_Candidate]]:
        """What the entry points claim, read once, when first needed."""
        claims: dict[str, list[_Candidate]] = {}
        for entry_point in installed_entry_points(GROUP) if self._given is None else self._given:
            candidate = _Candidate(entry_point.value, entry_point.load, partial(_distribution, entry_point))
            claims.setdefault(entry_point.name, []).append(candidate)
        return claims


def _distribution(entry_point: EntryPoint) -> str:
    return (entry_point.dist and entry_point.dist.name) or "an unnamed distribution"


def _clash(name: str, claims: list[_Candidate]) -> str:
    return f"the pass name {name!r} belongs to {' and to '.join(claim.owner for claim in claims)}; remove one"


def distribution_of(pass_: Pass) -> dict[str, str]:
    """The distribution that lists a pass, with its version; nothing for a pass that was registered at run time."""
    found = (entry for entry in installed_entry_points(GROUP) if entry.name == pass_.name)
    return {entry.dist.name: entry.dist.version for entry in found if entry.dist is not None}


def distributions_of(passes: Iterable[Pass]) -> dict[str, str]:
    """The same for several passes and those inside them."""
    return {k: v for pass_ in passes for inner in walk_passes(pass_) for k, v in distribution_of(inner).items()}


@cache
def default_registry() -> Registry:
    """The one registry of this process, which the command line and `register_pass` use."""
    return Registry()


def register_pass(pass_class: type[P]) -> type[P]:
    """Class decorator that adds a pass to the default registry, for notebooks and tests.

    Installed passes are listed in the entry-point group `onnxpress.passes` instead, and then need no decorator.
    """
    return default_registry().register(pass_class)
