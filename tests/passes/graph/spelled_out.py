"""Models that spell operators out: chains of blocks, some of them near misses, over one input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from onnx import ModelProto

from onnxpress.specs.golden import model_of

WEIGHTS = (
    "float zero = {0.0}, float one = {1.0}, float two = {2.0}, float three = {3.0}, float six = {6.0}, "
    "float half = {0.5}, float root = {1.4142135623730951}, float eps = {0.00001}, float[4] w = {1.0, 2.0, 0.5, -1.0}"
)
BLOCKS = (
    "{0}a = Add({x}, three) {0}c = Clip({0}a, zero, six) {0}m = Mul({x}, {0}c) {y} = Div({0}m, six)",
    "{0}a = Add({x}, three) {0}c = Clip({0}a, zero, six) {0}g = Div({0}c, six) {y} = Mul({0}g, {x})",
    "{0}a = Add({x}, three) {0}c = Clip({0}a, zero, two) {0}m = Mul({x}, {0}c) {y} = Div({0}m, six)",
    "{0}d = Div({x}, root) {0}e = Erf({0}d) {0}s = Add({0}e, one) {0}m = Mul({x}, {0}s) {y} = Mul({0}m, half)",
    "{0}m = ReduceMean<axes = [-1]>({x}) {0}d = Sub({x}, {0}m) {0}p = Pow({0}d, two) "
    "{0}v = ReduceMean<axes = [-1]>({0}p) {0}e = Add({0}v, eps) {0}s = Sqrt({0}e) {0}n = Div({0}d, {0}s) "
    "{y} = Mul({0}n, w)",
    "{0}s = Sigmoid({x}) {y} = Mul({x}, {0}s)",
    "{0}s = Softplus({x}) {0}t = Tanh({0}s) {y} = Mul({x}, {0}t)",
)
GAIN = 2 / np.sqrt(1e-5)
"""How much a normalization of nearly equal elements can enlarge an error, the greatest of all blocks."""


@st.composite
def spelled_out(draw: Callable[[st.SearchStrategy[Any]], Any]) -> ModelProto:
    """One to three blocks one after the other; now and then an inner value is an output."""
    numbers = draw(st.lists(st.integers(0, len(BLOCKS) - 1), min_size=1, max_size=3))
    names = ["x", *(f"y{at}" for at in range(1, len(numbers) + 1))]
    body = " ".join(BLOCKS[number].format(f"b{at}", x=names[at], y=names[at + 1]) for at, number in enumerate(numbers))
    outputs = [names[-1], *(["b0s"] if "b0s =" in body and draw(st.booleans()) else [])]
    declared = ", ".join("float[D0,D1,4] " + name if name == names[-1] else f"float[E,F,G] {name}" for name in outputs)
    text = f"g (float[N,S,4] x) => ({declared}) <{WEIGHTS}> {{ {body} }}"
    return model_of(text, opset=draw(st.sampled_from([12, 14, 17])))
