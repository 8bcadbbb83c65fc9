"""What is promised of a factorized layer, from the difference that is really stored: dW = W - AB.

norm2(dy) <= sigma_max(dW) norm2(x), for a convolution per position against its patch, and over the map times the square
root of the number of taps; abs(dy_j) <= sum_i abs(dW_ij) max abs(x). Both plus what the bias was moved by.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...ir import Value
from ...ir.analysis.linear import linear_of
from ..manager.bounds import LocalBound
from .factors import Float64, matrices
from .sites import Reader, Site

BY = "factorize"
EXACT_UP_TO = 2048
"""Smaller side of a matrix up to which its spectral norm is computed; above, a bound on it."""


def spectral_norm(change: Float64) -> tuple[float, bool]:
    """sigma_max over the groups' matrices of an error, and whether it is that or an upper bound."""
    found, exact = 0.0, True
    for matrix in matrices(change):
        k, n = matrix.shape
        if min(k, n) <= EXACT_UP_TO:
            square = matrix.T @ matrix if n <= k else matrix @ matrix.T
            value = float(np.sqrt(max(0.0, np.linalg.eigvalsh(square)[-1])))
        else:
            exact = False
            sums = np.abs(matrix).sum(axis=0).max() * np.abs(matrix).sum(axis=1).max()
            value = float(min(np.linalg.norm(matrix), np.sqrt(sums)))
        found = max(found, value)
    return found, exact


def local_bounds(
    site: Site, change: Float64, shift: Float64 | None, names: list[tuple[str, str]]
) -> Iterator[LocalBound]:
    """The bounds of all readings; `names` are graph and name of their outputs."""
    for reader, (graph, y) in zip(site.readers, names, strict=True):
        yield from _bounds(site, reader, graph, y, change)
        if shift is not None and np.any(shift):
            axis = -1 if site.kind == "matmul" else 1
            yield LocalBound(BY, graph, moved_name(site) or y, "absolute", axis, np.abs(shift).reshape(-1), site.label)


def _bounds(site: Site, reader: Reader, graph: str, y: str, change: Float64) -> Iterator[LocalBound]:
    rows = np.abs(change).sum(axis=(2, 3, 4))
    node = reader.last
    match site.kind:
        case "table":
            errors = np.abs(change[0, :, :, 0, 0]).max(axis=0)
            yield LocalBound(BY, graph, y, "table", 0, errors, site.label)
        case "recurrent":
            for value in node.outputs if "activations" not in node.attributes else ():
                if value.name:
                    yield LocalBound(BY, graph, value.name, "state", 0, np.full(1, 2.0), site.label)
        case "transposed":
            layer = linear_of(node) or site.layer
            taps = int(np.prod(layer.kernel)) if layer is not None else 1
            yield LocalBound(BY, graph, y, "linear", 1, rows.reshape(-1, taps).sum(axis=1), site.label)
        case _:
            slot = site.layer.slot if site.layer is not None else 1
            factor = abs(node.attr("alpha", 1.0)) if site.kind == "gemm" else 1.0
            sums = rows.reshape(-1) * factor
            if site.kind == "matmul":
                found, axis = (sums, -1) if slot else (sums.max(keepdims=True), 0)
            elif site.kind == "gemm":
                found, axis = sums, 1 if slot else 0
            else:
                found, axis = sums, 1
            yield LocalBound(BY, graph, y, "linear", axis, found, site.label)


def moved_name(site: Site) -> str:
    """The name of the sum of a product and a row, if that is what a bias would be added to."""
    place = site.bias_place if site.kind == "matmul" else None
    return "" if place is None else place[0].outputs[0].name


def output_names(site: Site) -> list[tuple[str, str]]:
    """Graph and name of the output of each reading."""
    return [_name(reader.last.outputs[0]) for reader in site.readers]


def _name(value: Value) -> tuple[str, str]:
    return ("" if value.graph is None else value.graph.label), value.name
