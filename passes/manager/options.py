"""The options of a pass: declared as dataclass fields, described for people and for the pipeline text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import Field, field, fields
from functools import cache
from typing import Any, NamedTuple, get_type_hints

from ...errors import UserError
from .annotations import Limits, kind_of
from .base import Pass
from .kinds import Kind

_DECLARED = "onnxpress.option"


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Iterable[str | int] | None = None,
    unit: str | None = None,
    nan: bool = False,
) -> Any:
    """A dataclass field that is an option of a pass: `energy: float | None = option(None, "...", low=0, high=1)`.

    `low` and `high` are allowed values themselves, `choices` narrows a str or an int, `nan` lets a float be NaN, `unit`
    is told to people. In a list all of them hold for every element.
    """
    limits = Limits(low, high, None if choices is None else tuple(choices), nan)
    return field(default=default, metadata={_DECLARED: _Declared(help, limits, unit)})


class _Declared(NamedTuple):
    help: str
    limits: Limits
    unit: str | None


class OptionSpec(NamedTuple):
    """One option of a pass class."""

    name: str
    """As in the pipeline text: the field's name with dashes for underscores, without one at its end (`else_`)."""
    field: str
    kind: Kind
    default: Any
    help: str
    unit: str | None

    @property
    def type(self) -> str:
        """The accepted values in words, bounds and choices included."""
        return self.kind.describe()

    def show(self, value: Any) -> str:
        """`key=value` in canonical form; `key` alone for true."""
        return self.name if value is True else f"{self.name}={self.kind.show(value)}"


@cache
def options_of(pass_class: type[Pass]) -> tuple[OptionSpec, ...]:
    """The options of `pass_class` in the order of its fields; UserError if one is not declared as an option can be."""
    try:
        hints = get_type_hints(pass_class, include_extras=True)
    except Exception as error:
        raise UserError(f"the annotations of {pass_class.__qualname__} cannot be evaluated: {error}") from error
    combinator_field = "inside" if pass_class.takes_pipeline else None
    return tuple(_spec(f, hints[f.name]) for f in fields(pass_class) if f.init and f.name != combinator_field)


def _spec(declaration: Field[Any], annotation: Any) -> OptionSpec:
    declared = declaration.metadata.get(_DECLARED)
    if not isinstance(declared, _Declared):
        raise UserError(f"the field {declaration.name!r} is not declared with option(...)")
    try:
        kind = kind_of(annotation, declared.limits)
    except UserError as error:
        raise UserError(f"option {declaration.name!r}: {error}") from None
    if problem := kind.fault(declaration.default):
        raise UserError(f"the default of option {declaration.name!r} is wrong: {problem}")
    name = declaration.name.removesuffix("_").replace("_", "-")
    return OptionSpec(name, declaration.name, kind, declaration.default, declared.help, declared.unit)
