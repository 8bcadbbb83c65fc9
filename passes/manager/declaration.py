"""What a class must be to serve as a pass, checked when it is registered or first loaded."""

from __future__ import annotations

from dataclasses import fields
from typing import Literal, get_args

from ...errors import UserError
from .base import Effect, Pass
from .lexer import is_word
from .options import options_of

_SCOPES: tuple[str, ...] = get_args(Literal["graph", "model"])


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
