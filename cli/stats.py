"""`onnxpress stats MODEL`: what a model holds and what it costs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import debug_option, pins_of, shape_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnx import TypeProto

    from ..ir import Model, Port, Value

_LARGEST = 10


@click.command("stats", short_help="Show what a model holds and costs.")
@click.argument("model", metavar="MODEL", type=click.Path(path_type=Path))
@shape_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all constants.")
@debug_option
def command(model: Path, shapes: tuple[str, ...], as_json: bool) -> None:
    """Show inputs, outputs, operators, weights, bytes and multiply-accumulates (MACs) of MODEL.

    MACs are those of one run at the shapes of the file, or at those that --shape gives.
    """
    pins = pins_of(shapes)
    from ..api import load

    loaded = load(model)
    found = statistics(loaded, pins.shapes)
    if as_json:
        from .json_text import json_text

        click.echo(json_text(found))
    else:
        from .stats_tables import show_statistics

        show_statistics(found, _LARGEST)


def statistics(model: Model, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Everything about a model as plain data; UserError if `shapes` do not fit its inputs."""
    from ..backends.interface import Pins
    from ..ir.analysis.claims import wrong_outputs
    from ..ir.analysis.cost import cost
    from ..ir.analysis.shapes import infer_shapes
    from ..ir.proto import file_size
    from ..ir.text.types import short_name
    from ..passes.manager.weights import constants

    Pins(shapes).check([_port(value) for value in model.graph.inputs])
    wrong = {output: inferred for output, _, inferred in wrong_outputs(model, infer_shapes(model))}
    price = cost(model, shapes)
    tensors: list[dict[str, Any]] = [
        {"name": name, "graph": graph.label, "dtype": short_name(t.dtype), "shape": list(t.shape), "bytes": t.nbytes}
        for graph, name, t in constants(model)
    ]
    by_dtype: Counter[str] = Counter()
    for _, _, t in constants(model):
        by_dtype[short_name(t.dtype)] += t.nbytes
    nodes = Counter(
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        for graph in model.walk_graphs()
        for node in graph.nodes
    )
    return {
        "inputs": [_described(value, optional=value.is_initializer) for value in model.graph.inputs],
        "outputs": [
            {"name": value.name, "type": _type_text(info.type), "inferred": wrong.get(value.name, "")}
            for value, info in zip(model.graph.outputs, model.graph.output_infos, strict=True)
        ],
        "ir_version": model.ir_version,
        "opset": {domain or "ai.onnx": version for domain, version in model.opset.items()},
        "functions": len(model.functions),
        "file_bytes": file_size(model),
        "nodes": price.nodes,
        "operators": dict(nodes.most_common()),
        "parameters": price.parameters,
        "weight_bytes": price.weight_bytes,
        "weight_bytes_by_type": dict(by_dtype.most_common()),
        "macs": price.macs,
        "macs_unknown": price.macs_unknown,
        "shapes": {name: list(shape) for name, shape in shapes.items()},
        "constants": sorted(tensors, key=lambda t: (-t["bytes"], t["name"])),
    }


def _described(value: Value, *, optional: bool) -> dict[str, Any]:
    return {"name": value.name, "type": _type_text(value.type), "optional": optional}


def _type_text(type_: TypeProto | None) -> str:
    from ..ir.text.types import type_text

    return "?" if type_ is None or type_.WhichOneof("value") is None else type_text(type_, full=False)


def _port(value: Value) -> Port:
    from ..ir import Port
    from ..ir.analysis.shapes import shape_of

    type_ = value.type
    if type_ is None or not type_.HasField("tensor_type"):
        return Port(value.name, None, None)
    return Port(value.name, type_.tensor_type.elem_type, shape_of(type_))
