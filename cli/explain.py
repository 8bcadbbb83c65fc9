"""`onnxpress explain MODEL [NODE]`: what made a node, as its provenance tells it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import debug_option

if TYPE_CHECKING:
    from ..ir import Model, Node

_PATH = click.Path(path_type=Path)
_DEEDS = {"insert": "made", "set-attribute": "given other attributes", "set-input": "made to read other values"}


@click.command("explain", short_help="Tell what made a node, from the provenance in a model.")
@click.argument("source", metavar="MODEL", type=_PATH)
@click.argument("node", metavar="NODE", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@debug_option
def command(source: Path, node: str | None, as_json: bool) -> None:
    """Tell the story of NODE, called by its name or an output's; without NODE that of the whole model.

    The model must have been written by `onnxpress run --provenance`; exit code 1 if it was not.
    """
    from ..api import load
    from ..errors import LimitError
    from ..passes.manager.provenance import read_runs, read_story
    from .checks import check_exists
    from .json_text import json_text

    check_exists(source)
    model = load(source)
    runs = read_runs(model)
    if not runs:
        raise LimitError(f"{source} has no provenance: write it with onnxpress run --provenance")
    if node is None:
        found: dict[str, Any] = {"runs": runs, "nodes": _counts(model)}
        click.echo(json_text(found) if as_json else "\n".join(_about_model(found)))
        return
    one = _named(model, node, source)
    story = read_story(model, one)
    click.echo(json_text({"node": one.label, "story": story}) if as_json else "\n".join(_about_node(one, story)))


def _named(model: Model, name: str, source: Path) -> Node:
    from ..errors import UserError, did_you_mean
    from ..passes.manager.provenance import walk_nodes

    names: dict[str, Node] = {}
    for _, node in walk_nodes(model):
        for known in (node.name, node.label, *(value.name for value in node.outputs)):
            names.setdefault(known, node)
    if name not in names:
        raise UserError(f"{source} has no node {name!r}{did_you_mean(name, names)}")
    return names[name]


def _counts(model: Model) -> dict[str, int]:
    """How many nodes each pass made or changed, and how many none did."""
    from ..passes.manager.provenance import read_story, walk_nodes

    counts: dict[str, int] = {}
    for _, node in walk_nodes(model):
        story = read_story(model, node)
        who = story[0]["by"] if story and story[0]["did"] == "insert" else "the input"
        counts[who] = counts.get(who, 0) + 1
    return counts


def _about_model(found: dict[str, Any]) -> list[str]:
    lines = []
    for run in found["runs"]:
        versions = ", ".join(f"{name} {version}" for name, version in sorted(run.get("versions", {}).items()))
        lines += [f"pipeline: {run.get('pipeline', '?')}", f"seed: {run.get('seed', '?')}", f"versions: {versions}"]
    counts = sorted(found["nodes"].items(), key=lambda item: -item[1])
    return [*lines, *(f"{count:,} nodes of {who}" for who, count in counts)]


def _about_node(node: Node, story: list[dict[str, Any]]) -> list[str]:
    lines = [f"{node.op_type} {node.label}"]
    if not story or story[0]["did"] != "insert":
        lines.append("comes from the input model" + ("" if story else ", unchanged"))
    for chapter in story:
        rule = f", rule {chapter['rule']}" if "rule" in chapter else ""
        source = f", in place of {', '.join(chapter['from'])}" if "from" in chapter else ""
        lines.append(f"{_DEEDS.get(chapter['did'], chapter['did'])} by {chapter['by']}{rule}{source}")
    return lines
