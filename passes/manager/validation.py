"""What makes a class usable as a pass, and an instance usable in a pipeline, wherever the two come from."""

from __future__ import annotations

from dataclasses import fields

from ...errors import UserError
from .base import Effect, Pass
from .lexer import is_word
from .options import options_of
from .syntax import MAX_DEPTH

_SCOPES = ("graph", "model")


def checked_pass_class(candidate: object) -> type[Pass]:
    """`candidate`, if it is a usable pass class; else a UserError that says what to change."""
    if not (isinstance(candidate, type) and issubclass(candidate, Pass)):
        raise UserError(f"{candidate!r} is not a subclass of Pass")
    for problem in (_dataclass_fault(candidate), _contract_fault(candidate), _combinator_fault(candidate)):
        if problem:
            raise UserError(f"{candidate.__qualname__} {problem}")
    options_of(candidate)
    return candidate


def _dataclass_fault(pass_class: type[Pass]) -> str | None:
    if "__dataclass_fields__" not in vars(pass_class):
        return "is not a dataclass; decorate it with @dataclass(frozen=True), below @register_pass if that is there"
    if pass_class.__abstractmethods__:
        return f"does not define {', '.join(sorted(pass_class.__abstractmethods__))}"
    return None


def _contract_fault(pass_class: type[Pass]) -> str | None:
    name, effect = getattr(pass_class, "name", None), getattr(pass_class, "effect", None)
    if not isinstance(name, str) or not is_word(name):
        return "has no class attribute 'name' that is a word of pipeline text"
    if not isinstance(effect, Effect):
        return "has no class attribute 'effect' that is a member of Effect"
    if pass_class.scope not in _SCOPES:
        return f"has the scope {pass_class.scope!r}; it must be one of {', '.join(_SCOPES)}"
    return None


def _combinator_fault(pass_class: type[Pass]) -> str | None:
    if pass_class.takes_pipeline and "inside" not in {f.name for f in fields(pass_class)}:
        return "takes a pipeline but has no field 'inside: tuple[Pass, ...]'"
    return None


def inside_of(pass_: Pass) -> tuple[Pass, ...]:
    """The passes in the parentheses of a combinator; empty for any other pass."""
    inside: tuple[Pass, ...] = getattr(pass_, "inside", ()) if pass_.takes_pipeline else ()
    return inside


def validate(pass_: Pass) -> None:
    """Check every option of a pass made in Python, and of the passes inside it; UserError for the first that is wrong.

    What passes can be written as text and parses back to the same pass.
    """
    _validate(pass_, 0)


def _validate(pass_: object, depth: int) -> None:
    if not isinstance(pass_, Pass):
        hint = f"; write {pass_.__name__}(...)" if isinstance(pass_, type) and issubclass(pass_, Pass) else ""
        raise UserError(f"a pipeline holds passes, not {pass_!r}{hint}")
    if depth > MAX_DEPTH:
        raise UserError(f"passes nest deeper than {MAX_DEPTH} levels")
    for spec in options_of(checked_pass_class(type(pass_))):
        if problem := spec.kind.fault(getattr(pass_, spec.field)):
            raise UserError(f"{pass_.name}: option {spec.name!r}: {problem}; it takes {spec.type}")
    inside: object = inside_of(pass_)
    if not isinstance(inside, tuple):
        raise UserError(f"{pass_.name}: 'inside' is not a tuple of passes")
    for inner in inside:
        _validate(inner, depth + 1)
