"""A pipeline, its text, and the way from one to the other: `fold,fixpoint{max=4}(cse,dce),prune{sparsity=30%}`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, overload

from ...errors import UserError, did_you_mean
from .base import Pass
from .foreign import foreign_code
from .kinds import BadValueError
from .mistakes import PipelineError, mistake, one_line, quoted
from .named import NamedPipeline, Pipelines, installed_pipelines
from .options import OptionSpec, options_of
from .registry import Registry, default_registry
from .syntax import Item, OptionText, RawValue, Word, read_items
from .validation import inside_of, validate


class Pipeline(Sequence[Pass]):
    """Passes in the order they run, each validated; UserError if one is not.

    `str` gives the canonical text, which parses back to an equal pipeline. Two pipelines are equal if they hold passes
    of the same classes with the same canonical text, so NaN equals NaN and `1` equals `1.0`.
    """

    def __init__(self, passes: Iterable[Pass] = ()) -> None:
        self.passes = tuple(passes)
        for pass_ in self.passes:
            validate(pass_)

    @overload
    def __getitem__(self, index: int) -> Pass: ...

    @overload
    def __getitem__(self, index: slice) -> Pipeline: ...

    def __getitem__(self, index: int | slice) -> Pass | Pipeline:
        """One pass, or the pipeline of a slice."""
        return Pipeline(self.passes[index]) if isinstance(index, slice) else self.passes[index]

    def __len__(self) -> int:
        """The number of top-level passes."""
        return len(self.passes)

    def __iter__(self) -> Iterator[Pass]:
        """The top-level passes."""
        return iter(self.passes)

    def __str__(self) -> str:
        """The canonical text."""
        return ",".join(map(pass_text, self.passes))

    def __eq__(self, other: object) -> bool:
        """Whether `other` is a pipeline of the same passes."""
        return isinstance(other, Pipeline) and self._identity() == other._identity()

    def __hash__(self) -> int:
        """Agrees with equality."""
        return hash(self._identity())

    def _identity(self) -> tuple[str, tuple[type[Pass], ...]]:
        return str(self), tuple(_classes(self.passes))


def pass_text(pass_: Pass) -> str:
    """The canonical text of a valid pass: options in field order, those with their default value left out."""
    options = " ".join(_options_text(pass_))
    inside = ",".join(map(pass_text, inside_of(pass_)))
    return pass_.name + (f"{{{options}}}" if options else "") + (f"({inside})" if pass_.takes_pipeline else "")


def parse_pipeline(text: str, registry: Registry | None = None) -> Pipeline:
    """The pipeline that `text` spells, its names looked up in `registry` (default: `default_registry()`).

    The grammar is in `specs/pipeline.md`; empty text is the pipeline of no passes. Named pipelines (of the default
    registry alone) stand for their passes. PipelineError for any mistake, with the place in the text.
    """
    named = installed_pipelines() if registry is None else None
    builder = _Builder(text, default_registry() if registry is None else registry, named)
    return Pipeline(tuple(builder.all(read_items(text))))


def _options_text(pass_: Pass) -> Iterator[str]:
    for spec in options_of(type(pass_)):
        shown = spec.show(getattr(pass_, spec.field))
        if shown != spec.show(spec.default):
            yield shown


def _classes(passes: tuple[Pass, ...]) -> Iterator[type[Pass]]:
    for pass_ in passes:
        yield type(pass_)
        yield from _classes(inside_of(pass_))


class _Builder:
    """Makes passes of items; `text` is there to point at."""

    def __init__(self, text: str, registry: Registry, named: Pipelines | None, chain: tuple[str, ...] = ()) -> None:
        self.text = text
        self.registry = registry
        self.named = named
        self.chain = chain

    def all(self, items: Iterable[Item]) -> Iterator[Pass]:
        """The passes of items, those of a named pipeline in its place."""
        for item in items:
            found = self._pipeline(item.name)
            if found is None:
                yield self.build(item)
            else:
                yield from self._expanded(item, found)

    def _pipeline(self, name: Word) -> NamedPipeline | None:
        """The pipeline that a name stands for; a pass of that name comes first, and then nothing is read."""
        if self.named is None or name.text in self.registry.names():
            return None
        try:
            return self.named.get(name.text)
        except UserError as error:
            raise mistake(str(error), self.text, name.start, name.end) from error

    def _expanded(self, item: Item, found: NamedPipeline) -> Iterator[Pass]:
        name = item.name
        if item.options or item.inside is not None:
            problem = f"{name.text} is a named pipeline: it takes neither options nor parentheses"
            raise mistake(problem, self.text, name.start, name.end)
        if name.text in self.chain:
            circle = " -> ".join((*self.chain, name.text))
            raise mistake(f"named pipelines name each other in a circle: {circle}", self.text, name.start, name.end)
        try:
            builder = _Builder(found.text, self.registry, self.named, (*self.chain, name.text))
            yield from builder.all(read_items(found.text))
        except PipelineError as error:
            raise PipelineError(f"in the pipeline {name.text!r} of {found.source}: {error}") from None

    def build(self, item: Item) -> Pass:
        pass_class = self._resolve(item.name)
        arguments = self._arguments(item, pass_class)
        if pass_class.takes_pipeline:
            arguments["inside"] = self._inside(item)
        elif item.inside is not None:
            problem = f"{item.name.text} takes no passes in parentheses"
            raise mistake(problem, self.text, item.opening, item.opening + 1)
        construct: Callable[..., Pass] = pass_class
        try:
            with foreign_code():
                return construct(**arguments)
        except Exception as error:  # a pass may refuse a combination of options in any way it likes
            problem = f"{item.name.text} does not accept these options: {one_line(error)}{self._maker(item.name)}"
            raise mistake(problem, self.text, item.name.start, item.name.end) from error

    def _maker(self, name: Word) -> str:
        """Whose the pass is, if it is of another distribution."""
        owner = self.registry.owner(name.text)
        return "" if owner.startswith(("onnxpress ", "this session ")) else f" (a pass of {owner})"

    def _resolve(self, name: Word) -> type[Pass]:
        try:
            return self.registry.get(name.text)
        except UserError as error:
            names = (*self.registry.names(), *(self.named.names() if self.named is not None else ()))
            if name.text in names:
                raise mistake(str(error), self.text, name.start, name.end) from error
            problem = f"unknown pass {quoted(name.text)}{did_you_mean(name.text, names)}"
            note = f"passes: {', '.join(names) or 'none are installed'}"
            raise mistake(problem, self.text, name.start, name.end, note) from error

    def _arguments(self, item: Item, pass_class: type[Pass]) -> dict[str, Any]:
        specs = {spec.name: spec for spec in options_of(pass_class)}
        arguments: dict[str, Any] = {}
        for option in item.options:
            key = option.key
            spec = specs.get(key.text)
            if spec is None:
                problem = f"unknown option {quoted(key.text)} of {item.name.text}{did_you_mean(key.text, specs)}"
                note = f"options: {', '.join(specs)}" if specs else f"{item.name.text} takes no options"
                raise mistake(problem, self.text, key.start, key.end, note)
            if spec.field in arguments:
                problem = f"option {key.text!r} of {item.name.text} is given twice"
                raise mistake(problem, self.text, key.start, key.end)
            arguments[spec.field] = self._value(item, option, spec)
        return arguments

    def _value(self, item: Item, option: OptionText, spec: OptionSpec) -> Any:
        note = f"{spec.name} takes {spec.type}"
        if option.value is None and spec.kind.fault(True):
            problem = f"option {spec.name!r} of {item.name.text} needs a value"
            raise mistake(problem, self.text, option.key.start, option.key.end, note)
        raw: RawValue = option.value or Word("true", option.key.start, option.key.end)
        try:
            return spec.kind.read(raw)
        except BadValueError as error:
            problem = f"option {spec.name!r} of {item.name.text}: {error}"
            raise mistake(problem, self.text, error.raw.start, error.raw.end, note) from None

    def _inside(self, item: Item) -> tuple[Pass, ...]:
        if item.inside is None:
            problem = f"{item.name.text} needs passes in parentheses, as in {item.name.text}(...)"
            raise mistake(problem, self.text, item.name.start, item.name.end)
        return tuple(self.all(item.inside))
