"""Hypothesis strategies for ONNX models: small, valid, and of every kind that passes have to cope with.

A model is drawn block by block (`strategies_math`, `strategies_shapes`, `strategies_control`, `strategies_impure`), so
it shrinks to few nodes. Drawn models pass `onnx.checker` (full check); apart from the impure ones they are made to run,
and the few that neither onnxruntime nor onnx's reference evaluator runs are for the caller to discard.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import assume
from hypothesis import strategies as st
from onnx import ModelProto, ValueInfoProto, helper

from . import strategies_control as control
from . import strategies_math as math
from . import strategies_shapes as shapes
from .strategies_impure import IMPURE_BLOCKS
from .strategies_patterns import PATTERNS
from .strategies_scope import BOOL, DOUBLE, FLOAT, FLOAT16, INT64, Draw, Names, Scope, Shape, World
from .validity import fault_of

Block = Callable[[Scope], None]
_LAYERS = (math.matmul, math.gemm, math.conv, math.embedding, math.lstm)
_MATH = (
    math.unary,
    math.binary,
    math.reduction,
    math.argmax,
    math.computed_constant,
    math.computed_constant,
    math.compare,
    math.where,
    math.cast,
    math.clip,
    math.dropout,
)
_SHAPES = (
    shapes.transpose,
    shapes.reshape,
    shapes.shape_chain,
    shapes.unsqueeze,
    shapes.concat,
    shapes.slicing,
    shapes.split,
    shapes.gather,
    shapes.expand,
    shapes.constant_of_shape,
    shapes.data_dependent,
    shapes.sequence,
    shapes.strings,
    shapes.narrow,
)
_BODIES: tuple[Block, ...] = (control.branch, control.loop, control.scan)
_FUNCTIONS: tuple[Block, ...] = (control.call,)

_INPUTS: tuple[tuple[int, Shape], ...] = (
    (FLOAT, (2, 3)),
    (FLOAT, ("N", 3)),
    (FLOAT, ()),
    (FLOAT, (3,)),
    (FLOAT, ("N", 2, 3, 3)),
    (FLOAT, (1, 2, 3, 3)),
    (FLOAT, ("T", 1, 4)),
    (FLOAT, (0, 3)),
    (INT64, ()),
    (INT64, ("N",)),
    (BOOL, ()),
    (DOUBLE, (2, 3)),
    (FLOAT, (2,)),
)


@st.composite
def models(
    draw: Draw,
    *,
    opsets: tuple[int, int] = (7, 24),
    max_steps: int = 6,
    bodies: bool = True,
    functions: bool = True,
    impure: bool = False,
    large: bool = False,
) -> ModelProto:
    """Models of one to `max_steps` blocks, in an opset of the window `opsets` (ends included).

    `bodies` admits If, Loop and Scan, `functions` model-local functions, `impure` random and unknown operators: such a
    model cannot be compared by its outputs. `large` gives layers weights above a kilobyte, and makes them frequent.
    """
    opset = draw(st.integers(*opsets))
    ir_version = draw(st.sampled_from((10, 8, 3) if opset > 20 else (8, 10, 3, 4, 7)))
    families: list[tuple[Block, ...]] = (
        [_LAYERS] * 4 + [_MATH, _SHAPES]
        if large
        else [_MATH, _SHAPES, PATTERNS, _MATH, _SHAPES, PATTERNS, _LAYERS, PATTERNS]
    )
    families += [_BODIES] * 2 * (bodies and opset >= 9) + [_FUNCTIONS] * 2 * (functions and opset >= 9)
    families += [IMPURE_BLOCKS] * 2 * impure
    real = draw(st.sampled_from((FLOAT, FLOAT, FLOAT16, FLOAT, FLOAT)))
    world = World(draw, opset, ir_version, families, (control.by_attribute,), real, large)
    scope = Scope(world, Names())
    for dtype, shape in draw(st.lists(st.sampled_from(_INPUTS), min_size=1, max_size=3)):
        scope.input(real if dtype == FLOAT else dtype, shape)
    scope.choose((_nothing, _constant, *([shapes.narrow] * (opset > 20))))(scope)
    if impure:
        scope.choose(IMPURE_BLOCKS)(scope)
    scope.steps(max_steps)
    proto = _model(scope)
    assume(not fault_of(proto))
    return proto


def _nothing(scope: Scope) -> None:
    """No constant to begin with."""


def _constant(scope: Scope) -> None:
    scope.constant(scope.real, scope.choose(((2, 3), (3,), (0, 3), ())))


def _model(scope: Scope) -> ModelProto:
    world, draw = scope.world, scope.draw
    picked = draw(st.lists(st.integers(0, len(scope.vars) - 1), max_size=2, unique=True))
    stored = {tensor.name for tensor in scope.initializers}
    outputs = [scope.result(scope.vars[-1])]
    for index in picked:
        var = scope.vars[index]
        outputs.append(var if var.name in stored and world.ir_version > 3 else scope.result(var))
    outputs = list(dict.fromkeys(outputs))
    scope.declare()
    graph = scope.graph(outputs, sized=draw(st.booleans()))
    _list_defaults(scope, graph.input)
    standard = "ai.onnx" if world.chance(10) else ""
    imports = [helper.make_opsetid(standard, world.opset)]
    imports += [helper.make_opsetid(domain, 1) for domain in sorted(world.domains)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=world.ir_version)
    model.functions.extend(signature.proto for signature in world.functions)
    return model


def _list_defaults(scope: Scope, inputs: list[ValueInfoProto]) -> None:
    """List initializers as inputs, which lets a feed override them: below IR version 4 all, else sometimes some."""
    world = scope.world
    everything = world.ir_version < 4
    some = world.chance(20)
    for tensor in scope.initializers:
        if everything or (some and scope.draw(st.booleans())):
            inputs.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
