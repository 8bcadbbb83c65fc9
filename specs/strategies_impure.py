"""Blocks that no pass may touch: random operators and operators that nobody knows."""

from __future__ import annotations

import numpy as np

from .strategies_scope import FLOAT, INT32, Scope

UNKNOWN_DOMAIN = "example.unknown"


def random(scope: Scope) -> None:
    """Random numbers, perhaps twice, which gives other ones."""
    op = scope.choose(("RandomNormal", "RandomUniform"))
    for _ in range(scope.choose((1, 2))):
        scope.node(op, [], [(FLOAT, (2, 3))], {"shape": [2, 3]})


def random_like(scope: Scope) -> None:
    """Random numbers in the shape of a value, perhaps twice."""
    op, x = scope.choose(("RandomNormalLike", "RandomUniformLike")), scope.operand(FLOAT, (2, 3))
    for _ in range(scope.choose((1, 2))):
        scope.node(op, [x], [(FLOAT, (2, 3))])


def bernoulli(scope: Scope) -> None:
    """Zeros and ones with the probabilities in a value."""
    if scope.opset >= 15:
        scope.node("Bernoulli", [scope.operand(FLOAT, (2, 3))], [(FLOAT, (2, 3))])


def multinomial(scope: Scope) -> None:
    """Draws from rows of log-probabilities."""
    scope.node("Multinomial", [scope.operand(FLOAT, (2, 3))], [(INT32, (2, 4))], {"sample_size": 4})


def training_dropout(scope: Scope) -> None:
    """Dropout that a constant switches on."""
    if scope.opset >= 12:
        inputs = [scope.operand(FLOAT, (2, 3)), scope.store(np.float32(0.5)), scope.store(np.bool_(True))]
        scope.node("Dropout", inputs, [(FLOAT, (2, 3))])


def unknown(scope: Scope) -> None:
    """An operator of a domain that has no schemas, perhaps twice."""
    scope.world.domains.add(UNKNOWN_DOMAIN)
    x = scope.operand(FLOAT, (2, 3))
    for _ in range(scope.choose((1, 2))):
        scope.node("Mystery", [x], [(FLOAT, (2, 3))], domain=UNKNOWN_DOMAIN)


IMPURE_BLOCKS = (random, random_like, bernoulli, multinomial, training_dropout, unknown)
