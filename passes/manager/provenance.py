"""Provenance: what made each node, written into the model's metadata, with all that a run needs to be done again.

Under the key `onnxpress` stands JSON: in an entry of the model the run (pipeline, seed, versions, digests of input and
data, settings) after earlier runs; in an entry of each node that a pass made or changed its story. Below IR version 10,
where nodes have no metadata, the stories stand in the entry of the model, by graph and first output. No clock and no
path goes in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import UserError
from ...ir import Graph, Model, Node, Rewriter

KEY = "onnxpress"
NODE_METADATA_SINCE = 10
"""The IR version from which on nodes have metadata."""
Facts = Mapping[str, Any]
Story = list[dict[str, Any]]


def write_provenance(rewriter: Rewriter, facts: Facts) -> None:
    """Write the stories of all nodes that the journal tells of, and `facts` about the run."""
    model = rewriter.model
    stories = {node: story for node, story in _stories(rewriter).items() if node.graph is not None}
    rewriter.by = KEY
    entry: dict[str, Any] = {"runs": [*read_runs(model), dict(facts)]}
    if model.ir_version >= NODE_METADATA_SINCE:
        for node, story in stories.items():
            rewriter.set_metadata(node, KEY, _text(story))
    else:
        entry["nodes"] = {place_of(node): story for node, story in stories.items()}
    rewriter.set_metadata(model, KEY, _text(entry))


def read_runs(model: Model) -> list[dict[str, Any]]:
    """The runs that a model tells of, the last one last; UserError if its entry cannot be read."""
    runs = _entry(model).get("runs", [])
    if not isinstance(runs, list) or not all(map(_is_run, runs)):
        raise UserError("the provenance in the model cannot be read: it has no list of runs")
    return runs


_OF_RUN = {"pipeline": str, "seed": int, "versions": dict, "input": str}
"""What each run tells at least."""


def _is_run(run: object) -> bool:
    return isinstance(run, dict) and all(isinstance(run.get(key), kind) for key, kind in _OF_RUN.items())


def _is_chapter(chapter: object) -> bool:
    return isinstance(chapter, dict) and all(isinstance(chapter.get(key), str) for key in ("by", "did"))


def read_story(model: Model, node: Node) -> Story:
    """What became of a node; empty if no pass made or changed it."""
    text = node.metadata.get(KEY)
    told = _entry(model).get("nodes", {}) if text is None else {}
    story = told.get(place_of(node), []) if text is None and isinstance(told, dict) else _parsed(text or "[]")
    if not isinstance(story, list) or not all(map(_is_chapter, story)):
        raise UserError(f"the provenance of node {node.label!r} cannot be read")
    return story


def place_of(node: Node) -> str:
    """A node by its graph and first output."""
    graph = node.graph
    return f"{graph.label if graph is not None else '?'}/{next((v.name for v in node.outputs if v.name), '')}"


def _entry(model: Model) -> dict[str, Any]:
    text = model.metadata.get(KEY)
    entry = {} if text is None else _parsed(text)
    if not isinstance(entry, dict):
        raise UserError("the provenance in the model cannot be read: it is no JSON object")
    return entry


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"the provenance in the model cannot be read: {error}") from None


def _text(data: object) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


def _stories(rewriter: Rewriter) -> dict[Node, Story]:
    """The stories by node: those that the model had, then what the journal adds, each thing once."""
    model = rewriter.model
    told = {node: story for graph in model.walk_graphs() for node in graph.nodes if (story := read_story(model, node))}
    stories: dict[Node, Story] = {node: list(story) for node, story in told.items()}
    for edit in rewriter.journal:
        if not isinstance(edit.subject, Node) or edit.kind == "erase":
            continue
        chapter: dict[str, Any] = {"by": edit.by, "did": edit.kind}
        if edit.rule:
            chapter["rule"] = edit.rule
        if edit.kind == "insert" and edit.subject.origin:
            chapter["from"] = list(edit.subject.origin)
        story = stories.setdefault(edit.subject, [])
        if chapter not in story:
            story.append(chapter)
    return stories


def walk_nodes(model: Model) -> Iterator[tuple[Graph, Node]]:
    """Every node with its graph."""
    for graph in model.walk_graphs():
        for node in graph.nodes:
            yield graph, node
