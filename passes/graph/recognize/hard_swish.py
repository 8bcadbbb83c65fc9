"""HardSigmoid and HardSwish.

clip(x + 3, 0, 6) / 6 = max(0, min(1, x/6 + 1/2)) is HardSigmoid with alpha = 1/6 and beta = 1/2, and x times it is
HardSwish (Howard et al., Searching for MobileNetV3, 2019). alpha is 1/6 rounded to float32, so equality in exact
arithmetic is up to that rounding of the mathematical constant, one unit u of relative error of the slope.

With a = abs(x)/6 + 1/2, on 0 < x + 3 < 6: before, x + 3, times x and over 6 round once each (k = 3; with a factor of
1/6 that is itself rounded, 4); after, alpha, alpha x, + beta and times x (k = 4).
"""

from __future__ import annotations

from onnx import TensorProto

from ....ir import Node, Value
from ...rewriting.pattern import Call, Pattern, any_of, op, scalar, var
from ...rewriting.rule import Builder, Match, Rule
from .extents import changes_rank
from .numbers import Rounded, float32, number_of

ALPHA, BETA = float32(1 / 6), 0.5
GATE = {"alpha": ALPHA, "beta": BETA}
HARD_SIGMOID_SINCE, HARD_SWISH_SINCE = 6, 14

_X = var("x")
_SHIFTED = op.Add(_X, scalar(3.0))
_CLIPPED = any_of(
    op.Clip(_SHIFTED, ...).named("clip"),
    op.Min(op.Relu(_SHIFTED), scalar(6.0)),
    op.Min(scalar(6.0), op.Relu(_SHIFTED)),
)
_SIXTH = Rounded(1 / 6)
_SCALED = (op.Div(_CLIPPED, scalar(6.0)), op.Mul(_CLIPPED, _SIXTH))
_GATE = op.HardSigmoid(_X).named("gate")


def _times_x(gate: Pattern) -> tuple[Call, ...]:
    """x clip(x + 3, 0, 6) / 6 in the other orders."""
    product = op.Mul(_X, gate)
    over = any_of(op.Div(_X, scalar(6.0)), op.Mul(_X, _SIXTH))
    return (op.Div(product, scalar(6.0)), op.Mul(product, _SIXTH), op.Mul(over, gate))


def bounds_of(clip: Node) -> tuple[float | None, float | None]:
    """The limits of a Clip that are constants of one number: attributes before opset 11, inputs since."""
    if clip.attributes:
        return clip.attr("min"), clip.attr("max")
    return number_of(clip.input(1)), number_of(clip.input(2))


def _guard(match: Match) -> str:
    clip, gate = match.bound.nodes.get("clip"), match.bound.nodes.get("gate")
    if clip is not None and bounds_of(clip) != (0.0, 6.0):
        return "- clipped to another range"
    if gate is not None and (gate.attr("alpha", float32(0.2)), gate.attr("beta", 0.5)) != (ALPHA, BETA):
        return "- another slope"
    if match.types.dtype(match["x"]) == TensorProto.DOUBLE:
        return "the slope of HardSigmoid is a float32: 1/6 is not precise enough for double"
    return changes_rank(match, match["x"])


def _gate(match: Match, b: Builder) -> Value:
    return b("HardSigmoid", match["x"], attributes=GATE)


def _two_nodes(match: Match, b: Builder) -> Value:
    return b("Mul", match["x"], _gate(match, b))


def _one_node(match: Match, b: Builder) -> Value:
    return b("HardSwish", match["x"])


HARD_SIGMOID = (
    *(Rule(f"hard-sigmoid-{n}", form, _gate, _guard) for n, form in enumerate(_SCALED, 1)),
    *(Rule(f"hard-swish-{n}", form, _two_nodes, _guard) for n, form in enumerate(_times_x(_CLIPPED), 1)),
)
HARD_SWISH = (
    Rule("hard-swish-op", op.Mul(_X, _GATE), _one_node, _guard),
    *(
        Rule(f"hard-swish-op-{n}", form, _one_node, _guard)
        for n, form in enumerate((op.Mul(_X, any_of(*_SCALED)), *_times_x(_CLIPPED)), 1)
    ),
)
