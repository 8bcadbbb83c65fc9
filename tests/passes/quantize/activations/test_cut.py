"""The minimum cut against every choice there is."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import parser

from onnxpress.ir import Graph, lower
from onnxpress.ir.analysis.shapes import infer_shapes
from onnxpress.passes.quantize.static.cut import chosen, time_of
from onnxpress.passes.quantize.static.units import Units
from onnxpress.passes.quantize.targets.profile import profile

NETWORK = """<ir_version: 8, opset_import: ["" : 17]> g (float[2,4] x) => (float[2,4] y, float[2,4] d)
<float[4,4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}> {
    a = Sigmoid(x)
    b = Add(a, x)
    c = MatMul(b, w)
    d = Exp(c)
    e = Mul(c, a)
    f = Reshape(e, shape)
    y = Add(f, b)
}"""


class Priced:
    late = 0.0

    def __init__(self, units, values, prices):
        numbers = iter(prices)
        self.units = {unit: (next(numbers), next(numbers)) for unit in units}
        self.crossing = {value: (next(numbers), next(numbers)) for value in values}

    def unit(self, unit):
        return self.units[unit]

    def quantize(self, value):
        return self.crossing[value][0]

    def decode(self, value):
        return self.crossing[value][1]

    def apart(self, unit):
        return self.late if unit.node.is_op("MaxPool") else 0.0


def network():
    model = parser.parse_model(NETWORK.replace("<float[4,4] w", "<int64[2] shape = {2,4}, float[4,4] w"))
    lowered = lower(model)
    return lowered, Units(lowered, profile("ort-cpu"), infer_shapes(lowered)).found


def price(units, taken, costs):
    """What a choice costs, counted value by value."""
    total = sum(costs.unit(unit)[unit in taken] for unit in units)
    producer = {value: unit for unit in units for value in unit.outputs}
    by_node = {unit.node: unit for unit in units}
    for value in costs.crossing:
        made = producer.get(value)
        inside = made in taken
        readers = [None if isinstance(use.user, Graph) else by_node.get(use.user) for use in value.uses]
        if not inside and any(reader in taken for reader in readers):
            total += costs.quantize(value)
        if inside and not made.leaves_float and any(reader not in taken for reader in readers):
            total += costs.decode(value)
    return total


@given(st.lists(st.integers(0, 9), min_size=32, max_size=32))
def test_no_choice_is_cheaper(prices):
    _, units = network()
    assert len(units) == 6
    values = dict.fromkeys(value for unit in units for value in (*unit.activations, *unit.outputs))
    costs = Priced(units, values, prices)
    best = min(
        price(units, {unit for unit, yes in zip(units, choice, strict=True) if yes}, costs)
        for choice in product((False, True), repeat=len(units))
    )
    assert price(units, set(chosen(units, costs)), costs) == pytest.approx(best)


def test_a_penalty_keeps_a_unit_in_float():
    _, units = network()
    values = dict.fromkeys(value for unit in units for value in (*unit.activations, *unit.outputs))
    costs = Priced(units, values, [9, 1] * len(units) + [0, 0] * len(values))
    assert chosen(units, costs) == units
    (product_,) = (unit for unit in units if unit.node.is_op("MatMul"))
    assert product_ not in chosen(units, costs, lambda unit: 100.0 * (unit is product_))


@given(st.lists(st.integers(0, 9), min_size=32, max_size=32), st.sets(st.integers(0, 5)))
def test_the_time_of_a_choice_is_counted_value_by_value(prices, taken):
    _, units = network()
    values = dict.fromkeys(value for unit in units for value in (*unit.activations, *unit.outputs))
    costs = Priced(units, values, prices)
    some = {units[index] for index in taken}
    assert time_of(units, some, costs) == price(units, some, costs)


POOLED = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,1,4,4] x) => (float[1,1,4,4] y, float[1,1,4,4] z)
<float[1,1,1,1] w = {2}> {
    c = Conv(x, w)
    a = Sigmoid(c)
    b = Mul(c, a)
    d = MaxPool<kernel_shape = [3,3], pads = [1,1,1,1]>(b)
    y = MaxPool<kernel_shape = [3,3], pads = [1,1,1,1]>(d)
    e = Add(x, x)
    z = MaxPool<kernel_shape = [3,3], pads = [1,1,1,1]>(e)
}"""


@given(st.lists(st.integers(0, 9), min_size=30, max_size=30), st.integers(0, 20))
def test_a_pool_is_dear_without_an_integer_convolution_behind_it(prices, late):
    """Against every choice, counted in this test's own words: pools of `y` need Conv, Sigmoid and Mul, that of `z` has
    none."""
    lowered = lower(parser.parse_model(POOLED))
    units = Units(lowered, profile("ort-cpu"), infer_shapes(lowered)).found
    conv, sigmoid, mul, first, second, _, third = units
    values = dict.fromkeys(value for unit in units for value in (*unit.activations, *unit.outputs))
    costs = Priced(units, values, prices)
    costs.late = late

    def full(taken):
        chain = {conv, sigmoid, mul}
        dear = [first in taken and not chain <= taken, second in taken and not {*chain, first} <= taken, third in taken]
        moved = first not in taken and second in taken  # what quantizes between them goes in front of both
        return price(units, taken, costs) + late * (sum(dear) + moved)

    choices = [
        {unit for unit, yes in zip(units, choice, strict=True) if yes}
        for choice in product((False, True), repeat=len(units))
    ]
    best = min(full(choice) for choice in choices)
    found = set(chosen(units, costs))
    assert full(found) == pytest.approx(best)
    assert time_of(units, found, costs) == pytest.approx(best)
