"""Which units run in integers: the choice of least cost, found exactly as a minimum cut.

Every unit costs one time in float and another in integers, and what it does to the outputs costs too; where a value
goes from one side to the other it is quantized or decoded, once, whoever reads it. All of that are weights of edges of
a network whose source side is what runs in integers (Greig, Porteous and Seheult 1989; Kolmogorov and Zabih 2004).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from ....ir import Graph, Node, Value
from .channels_last import behind_convolutions
from .units import Unit

if TYPE_CHECKING:
    import networkx as nx

INTEGERS, FLOAT = "integers", "float"
Network: TypeAlias = "nx.DiGraph[object]"


class Costs(Protocol):
    """Times in microseconds."""

    def unit(self, unit: Unit) -> tuple[float, float]:
        """Of a unit in float and in integers."""
        ...

    def quantize(self, value: Value) -> float:
        """Of quantizing a value."""
        ...

    def decode(self, value: Value) -> float:
        """Of decoding a value."""
        ...

    def apart(self, unit: Unit) -> float:
        """Of a unit in integers, on top of the rest, if it does not have the layout of integer convolutions."""
        ...

    def spells(self, unit: Unit) -> bool:
        """Whether a unit in float is faster spelled out, and counted so."""
        ...


class Free:
    """No times: whatever can run in integers does."""

    def unit(self, unit: Unit) -> tuple[float, float]:
        """Float costs one, integers nothing."""
        return 1.0, 0.0

    def quantize(self, value: Value) -> float:
        """Nothing."""
        return 0.0

    def decode(self, value: Value) -> float:
        """Nothing."""
        return 0.0

    def apart(self, unit: Unit) -> float:
        """Nothing."""
        return 0.0

    def spells(self, unit: Unit) -> bool:
        """No."""
        return False


def chosen(units: Sequence[Unit], costs: Costs, penalty: Callable[[Unit], float] = lambda unit: 0.0) -> list[Unit]:
    """The units that run in integers at the least cost; `penalty` is added to those in integers."""
    import networkx as nx  # takes a tenth of a second, which other modes need not wait for

    network: Network = nx.DiGraph()
    network.add_nodes_from((INTEGERS, FLOAT))
    made_by = {value: unit for unit in units for value in unit.outputs}
    readers: dict[Value, list[Unit]] = {}
    for unit in units:
        in_float, in_integers = costs.unit(unit)
        _edge(network, INTEGERS, unit, in_float)
        _edge(network, unit, FLOAT, in_integers + penalty(unit))
        _apart(network, unit, costs.apart(unit), made_by)
        for value in unit.activations:
            readers.setdefault(value, []).append(unit)
    for value in dict.fromkeys((*made_by, *readers)):
        producer = made_by.get(value)
        _quantized(network, value, producer, readers.get(value, ()), _quantize(costs, value, producer))
        if producer is not None and not producer.leaves_float:
            _decoded(network, value, producer, readers.get(value, ()), costs.decode(value), _others(value, readers))
    _, (integers, _) = nx.minimum_cut(network, INTEGERS, FLOAT)
    return _sharing_alike([unit for unit in units if unit in integers])


def time_of(units: Sequence[Unit], taken: Collection[Unit], costs: Costs) -> float:
    """What `units` take if those of `taken` run in integers, with what is quantized and decoded."""
    made_by = {value: unit for unit in units for value in unit.outputs}
    readers: dict[Value, list[Unit]] = {}
    for unit in units:
        for value in unit.activations:
            readers.setdefault(value, []).append(unit)
    total = sum(costs.unit(unit)[unit in taken] for unit in units)
    for unit in units:
        cost = costs.apart(unit) if unit in taken else 0.0
        makers = behind_convolutions(unit, made_by) if cost else frozenset()
        total += cost if makers is None or not all(maker in taken for maker in makers) else 0.0
    for value in dict.fromkeys((*made_by, *readers)):
        producer = made_by.get(value)
        read = [unit in taken for unit in readers.get(value, ())]
        if producer is None or producer not in taken:
            total += _quantize(costs, value, producer) if any(read) else 0.0
        elif not producer.leaves_float and (not all(read) or _others(value, readers)):
            total += costs.decode(value)
    return total


def _sharing_alike(units: list[Unit]) -> list[Unit]:
    """Without those whose weight others read in float: it would be in the file twice."""
    readers = {(unit.node, unit.weight) for unit in units}
    apart = {unit for unit in units if unit.weight >= 0 and not _is_shared_among(unit, readers)}
    return _sharing_alike([unit for unit in units if unit not in apart]) if apart else units


def _is_shared_among(unit: Unit, readers: set[tuple[Node, int]]) -> bool:
    weight = unit.node.inputs[unit.weight]
    return weight is not None and all(
        isinstance(use.user, Node) and (use.user, use.slot) in readers for use in weight.uses
    )


def _quantize(costs: Costs, value: Value, producer: Unit | None) -> float:
    """Of quantizing a value whose producer is in float: onnxruntime quantizes in front of a MaxPool what is quantized
    behind it, and so has it in integers after all."""
    return costs.quantize(value) + (0.0 if producer is None else costs.apart(producer))


def _apart(network: Network, unit: Unit, cost: float, made_by: Mapping[Value, Unit]) -> None:
    """Paid once if the unit is in integers and one of those that give it its layout in float, or if nothing does."""
    if not cost:
        return
    join = ("apart", unit)
    _edge(network, unit, join, cost)
    makers = behind_convolutions(unit, made_by)
    for maker in (FLOAT,) if makers is None else makers:
        _edge(network, join, maker, float("inf"))


def _quantized(network: Network, value: Value, producer: Unit | None, readers: Iterable[Unit], cost: float) -> None:
    """Paid once if the producer is in float and a reader in integers."""
    join = ("quantize", value)
    for reader in readers:
        _edge(network, reader, join, float("inf"))
        _edge(network, join, FLOAT if producer is None else producer, cost)


def _decoded(
    network: Network, value: Value, producer: Unit, readers: Iterable[Unit], cost: float, others: bool
) -> None:
    """Paid once if the producer is in integers and a reader in float."""
    join = ("decode", value)
    _edge(network, producer, join, cost)
    for reader in (FLOAT,) if others else readers:
        _edge(network, join, reader, float("inf"))


def _others(value: Value, readers: Mapping[Value, Sequence[Unit]]) -> bool:
    """Whether somebody reads a value who cannot run in integers."""
    nodes = {unit.node for unit in readers.get(value, ())}
    return any(isinstance(use.user, Graph) or use.user not in nodes for use in value.uses)


def _edge(network: Network, start: object, end: object, capacity: float) -> None:
    if capacity == float("inf"):
        network.add_edge(start, end)  # no capacity: infinite
    elif capacity > 0:
        network.add_edge(start, end, capacity=capacity)
