"""From a field's annotation to the kind of its values."""

from __future__ import annotations

from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from ...errors import UserError
from .kinds import (
    BoolKind,
    ChoiceKind,
    FloatKind,
    IntKind,
    Kind,
    ListKind,
    NumberKind,
    OptionalKind,
    SizeKind,
    StrKind,
    WordOrKind,
)
from .units import Bytes


class Limits(NamedTuple):
    """What narrows the values of an option; in a list it holds for every element."""

    low: float | None = None
    high: float | None = None
    choices: tuple[str | int, ...] | None = None
    nan: bool = False


def kind_of(annotation: Any, limits: Limits) -> Kind:
    """The kind that `annotation` names, narrowed by `limits`.

    UserError if the annotation is none that a pipeline text can carry, or if a limit says nothing about its values.
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType) and len(args) == 2 and NoneType in args:
        return OptionalKind(kind_of(args[args[0] is NoneType], limits))
    words = next((arg for arg in args if get_origin(arg) is Literal), None) if origin in (Union, UnionType) else None
    if words is not None and len(args) == 2:
        inner = kind_of(args[args[0] is words], limits)
        if isinstance(inner, NumberKind):
            return WordOrKind(_choice(get_args(words), str), inner)
    if origin is tuple and len(args) == 2 and args[1] is Ellipsis:
        return ListKind(kind_of(args[0], limits))
    if origin is Annotated and Bytes not in args:
        return kind_of(args[0], limits)
    return _scalar(annotation, limits)


def _scalar(annotation: Any, limits: Limits) -> Kind:
    if limits.choices is not None and annotation in (str, int):
        _reject_others(limits, "choices")
        return _choice(limits.choices, annotation)
    if annotation is float:
        _reject_others(limits, "low", "high", "nan")
        return FloatKind(limits.low, limits.high, limits.nan)
    if annotation is int or annotation == Annotated[int, Bytes]:
        _reject_others(limits, "low", "high")
        return (IntKind if annotation is int else SizeKind)(limits.low, limits.high)
    _reject_others(limits)
    if annotation is bool:
        return BoolKind()
    if annotation is str:
        return StrKind()
    if get_origin(annotation) is Literal:
        return _choice(get_args(annotation), str, int)
    if isinstance(annotation, type) and issubclass(annotation, StrEnum) and len(annotation):
        return ChoiceKind({member.value: member for member in annotation})
    raise UserError(f"the type {annotation!r} cannot be written in a pipeline text")


def _choice(choices: tuple[Any, ...], *types: type) -> ChoiceKind:
    values = {str(choice): choice for choice in choices}
    if any(type(choice) not in types for choice in choices) or not choices or len(values) < len(choices):
        raise UserError(
            f"the choices {choices} must be distinct values of type {' or '.join(t.__name__ for t in types)}"
        )
    return ChoiceKind(values)


def _reject_others(limits: Limits, *meaningful: str) -> None:
    given = {name for name, value in limits._asdict().items() if value != Limits._field_defaults[name]}
    extra = sorted(given.difference(meaningful))
    if extra:
        raise UserError(f"{' and '.join(extra)} cannot limit a value of this type")
