"""The operators that are recognized: since when onnx has them, the rules that make them, and what onnxruntime does."""

from __future__ import annotations

from collections.abc import Mapping

from ...rewriting.rule import Rule
from .attention import SINCE as ATTENTION_SINCE
from .attention import rules as attention_rules
from .gelu import GELU
from .gelu import SINCE as GELU_SINCE
from .hard_swish import HARD_SIGMOID, HARD_SIGMOID_SINCE, HARD_SWISH, HARD_SWISH_SINCE
from .layer_norm import LAYER_NORMALIZATION, LAYER_SINCE, RMS_NORMALIZATION, RMS_SINCE
from .swish import MISH, MISH_SINCE, SOFTPLUS, SOFTPLUS_SINCE, SWISH, SWISH_SINCE


class Operator:
    """An operator and how it is found. Of two that fit in one place the first in the table is made."""

    def __init__(
        self,
        name: str,
        since: int,
        rules: tuple[Rule, ...],
        by_default: bool = True,
        inputs: int = 1,
        attributes: Mapping[str, int] | None = None,
    ) -> None:
        self.name = name
        self.since = since
        """The opset that brought it."""
        self.rules = rules
        self.by_default = by_default
        """Whether it is made unless others are asked for: not if it was measured to be slower in onnxruntime."""
        self.inputs = inputs
        """How many inputs of its own type the smallest call has."""
        self.attributes = {} if attributes is None else attributes
        """What the smallest call must say."""


def operators() -> tuple[Operator, ...]:
    """The table, made anew for each run: rules of attention remember what they expanded."""
    return (
        Operator("Attention", ATTENTION_SINCE, attention_rules(), inputs=3),
        Operator("LayerNormalization", LAYER_SINCE, LAYER_NORMALIZATION, inputs=2),
        Operator("RMSNormalization", RMS_SINCE, RMS_NORMALIZATION, inputs=2),
        Operator("Gelu", GELU_SINCE, GELU),
        Operator("HardSwish", HARD_SWISH_SINCE, HARD_SWISH),
        Operator("HardSigmoid", HARD_SIGMOID_SINCE, HARD_SIGMOID),
        Operator("Mish", MISH_SINCE, MISH),
        Operator("Swish", SWISH_SINCE, SWISH, by_default=False),
        Operator("Softplus", SOFTPLUS_SINCE, SOFTPLUS, by_default=False),
    )


NAMES = tuple(operator.name for operator in operators())
ALL = "all"
