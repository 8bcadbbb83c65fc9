"""`onnxpress passes [NAME]`: the passes that a pipeline can name, and all that is to know of one."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import click

from .options import debug_option

if TYPE_CHECKING:
    from ..passes.manager.base import Pass
    from ..passes.manager.registry import Registry

_CONTRACTS = {
    "EXACT": "bit-identical outputs in the reference configuration of the executor that evaluated the constants; "
    "ROUNDING on any other",
    "ROUNDING": "equal in exact arithmetic; the outputs differ by floating-point rounding only",
    "LOSSY": "constants are replaced or rounding is inserted; every rewritten value has a stated local bound",
    "LEARNED": "no bound; measured only",
}
_INSIDE = "what the passes in its parentheses promise, the weakest of them"


@click.command("passes")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@debug_option
def command(name: str | None, as_json: bool) -> None:
    """List the passes, or tell everything about the pass NAME."""
    from ..passes.manager.registry import default_registry

    registry = default_registry()
    if name is not None and name not in registry.names():
        pipeline = _pipeline(name)
        if pipeline is not None:
            _print_json(pipeline) if as_json else _show_pipeline(pipeline)
            return
    if name is not None:
        one = _described(registry, name)
        _print_json(one) if as_json else _show(one)
        return
    found, problems = _all_of(registry)
    pipelines, more = _all_pipelines(registry)
    problems += more
    _print_json([*found, *pipelines]) if as_json else _list(found, pipelines)
    for problem in problems:
        click.echo(f"onnxpress: warning: {problem}", err=True)


def _all_of(registry: Registry) -> tuple[list[dict[str, Any]], list[str]]:
    """The passes that can be used, and one line for each that cannot."""
    from ..errors import UserError

    found, problems = [], []
    for name in registry.names():
        try:
            found.append(_described(registry, name))
        except UserError as error:
            problems.append(str(error))
    return found, problems


def _all_pipelines(registry: Registry) -> tuple[list[dict[str, Any]], list[str]]:
    """The named pipelines that can be used, and one line for each that cannot, or that a pass hides."""
    from ..errors import UserError
    from ..passes.manager.named import installed_pipelines

    found: list[dict[str, Any]] = []
    try:
        names = installed_pipelines().names()
    except UserError as error:
        return [], [str(error)]
    problems = [f"the pass {name!r} hides the pipeline of that name" for name in names if name in registry.names()]
    for name in names:
        try:
            pipeline = None if name in registry.names() else _pipeline(name)
        except UserError as error:
            problems.append(str(error))
        else:
            found += [pipeline] if pipeline is not None else []
    return found, problems


def _pipeline(name: str) -> dict[str, Any] | None:
    """A named pipeline as plain data; None if there is none."""
    from ..passes.manager.named import installed_pipelines
    from ..passes.manager.text import parse_pipeline

    found = installed_pipelines().get(name)
    if found is None:
        return None
    return {"name": name, "pipeline": found.text, "expanded": str(parse_pipeline(name)), "owner": found.source}


def _show_pipeline(one: dict[str, Any]) -> None:
    from .tables import show_table

    click.echo(f"{one['name']}: a named pipeline")
    facts = [("text", one["pipeline"]), ("passes", one["expanded"]), ("defined in", one["owner"])]
    show_table(("", ""), facts, text=(0, 1))


def _described(registry: Registry, name: str) -> dict[str, Any]:
    """Everything about a pass as plain data."""
    from ..passes.manager.options import options_of

    pass_class = registry.get(name)
    summary = registry.summary(name)
    adds_nothing = pass_class.takes_pipeline and str(pass_class.effect) == "EXACT"
    return {
        "name": name,
        "summary": summary,
        "description": _body(pass_class) if summary else "",
        "effect": "of those inside" if adds_nothing else str(pass_class.effect),
        "contract": _INSIDE if adds_nothing else _CONTRACTS[pass_class.effect],
        "scope": pass_class.scope,
        "keeps_interface": pass_class.keeps_interface,
        "idempotent": pass_class.idempotent,
        "takes_pipeline": pass_class.takes_pipeline,
        "owner": registry.owner(name),
        "options": [
            {
                "name": spec.name,
                "type": spec.type,
                "default": spec.kind.show(spec.default),
                "help": spec.help,
                "unit": spec.unit,
            }
            for spec in options_of(pass_class)
        ],
    }


def _body(pass_class: type[Pass]) -> str:
    """The docstring behind its first line."""
    return inspect.cleandoc(pass_class.__doc__ or "").partition("\n")[2].strip()


def _list(found: list[dict[str, Any]], pipelines: list[dict[str, Any]]) -> None:
    from .tables import show_table

    rows = [(one["name"], one["effect"], one["summary"]) for one in found]
    show_table(("pass", "effect", "summary"), rows, text=(0, 1, 2))
    if pipelines:
        named = [(one["name"], one["pipeline"], one["owner"]) for one in pipelines]
        show_table(("named pipeline", "text", "defined in"), named, text=(0, 1, 2))
    click.echo("\n`onnxpress passes NAME` tells the options and the contract of one.")


def _show(one: dict[str, Any]) -> None:
    from .tables import show_table

    click.echo(f"{one['name']}: {one['summary']}")
    if one["description"]:
        click.echo(f"\n{one['description']}")
    facts = [
        ("effect", f"{one['effect']}: {one['contract']}"),
        ("inputs and outputs", "kept" if one["keeps_interface"] else "may change"),
        ("run twice", "changes nothing more" if one["idempotent"] else "may change more"),
        ("defined in", one["owner"]),
    ]
    show_table(("", ""), facts, text=(0, 1))
    if not one["options"]:
        click.echo(f"\n{one['name']} has no options.")
        return
    rows = [(o["name"], o["default"], o["type"], _help(o)) for o in one["options"]]
    show_table(("option", "default", "accepts", "meaning"), rows, text=(0, 1, 2, 3))


def _help(option: dict[str, Any]) -> str:
    return f"{option['help']} ({option['unit']})" if option["unit"] else str(option["help"])


def _print_json(data: object) -> None:
    from .json_text import json_text

    click.echo(json_text(data))
