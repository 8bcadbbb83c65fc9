"""The statistics of a model as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from .tables import show_table
from .words import bytes_text, count_text, plural

_OPERATORS = 20


def show_statistics(found: Mapping[str, Any], largest: int) -> None:
    """Print what `statistics` found, with the `largest` largest constants."""
    for line in _summary(found):
        click.echo(line)
    needed = [value for value in found["inputs"] if not value["optional"]]
    ports = [("input", one["name"], one["type"]) for one in needed]
    ports += [("output", one["name"], _declared(one)) for one in found["outputs"]]
    show_table(("", "name", "type"), ports, text=(0, 1, 2))
    if len(needed) < len(found["inputs"]):
        click.echo(f"and {plural(len(found['inputs']) - len(needed), 'input')} with a default")
    operators = list(found["operators"].items())
    show_table(("operator", "count"), [(name, f"{count:,}") for name, count in operators[:_OPERATORS]])
    if operators[_OPERATORS:]:
        click.echo(f"and {len(operators) - _OPERATORS} more kinds")
    types = found["weight_bytes_by_type"].items()
    show_table(("constants of type", "bytes"), [(name, bytes_text(count)) for name, count in types])
    rows = [_constant(one) for one in found["constants"][:largest]]
    show_table(("largest constants", "in", "type", "bytes"), rows, text=(0, 1, 2))


def _declared(output: Mapping[str, Any]) -> str:
    """The type of an output, and what it really is where the file is wrong."""
    return f"{output['type']}, but it is {output['inferred']}" if output["inferred"] else str(output["type"])


def _summary(found: Mapping[str, Any]) -> list[str]:
    opset = ", ".join(f"{domain} {version}" for domain, version in found["opset"].items())
    unknown = found["macs_unknown"]
    missing = f", and those of {plural(unknown, 'operator')} whose shapes are unknown" if unknown else ""
    hint = " (--shape NAME=... fixes an input)" if unknown and not found["shapes"] else ""
    return [
        f"size on disk  {bytes_text(found['file_bytes'])}",
        f"parameters    {count_text(found['parameters'])} in {bytes_text(found['weight_bytes'])}",
        f"nodes         {found['nodes']:,}"
        + (f", {plural(found['functions'], 'function')}" * bool(found["functions"])),
        f"MACs          {count_text(found['macs'])}{missing}{hint}",
        f"opset         {opset}; IR version {found['ir_version']}",
    ]


def _constant(one: Mapping[str, Any]) -> tuple[str, str, str, str]:
    shape = ",".join(map(str, one["shape"]))
    return one["name"], one["graph"], f"{one['dtype']}[{shape}]", bytes_text(one["bytes"])
