"""Fits the cost table of a target's profile to this host: every unit of some models timed alone, in float and integers.

    python bench/quantize_costs.py MODEL DATA [MODEL DATA ...]

prints lines for `passes/quantize/targets/ort-cpu.toml`. The fit is non-negative least squares of relative errors.
A MaxPool alone does not have the layout of integer convolutions: what is printed for it in integers is `mac` and
`apart` together.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.optimize import nnls

import onnxpress
from onnxpress.backends.interface import Pins
from onnxpress.passes.calibrate.calibrate import calibrate
from onnxpress.passes.manager.base import Effect, Pass
from onnxpress.passes.quantize.static.alone import Alone
from onnxpress.passes.quantize.static.draft import parameters, seen
from onnxpress.passes.quantize.static.emit import Emitter
from onnxpress.passes.quantize.static.estimated import kind_of, work
from onnxpress.passes.quantize.static.measured import MeasuredCosts
from onnxpress.passes.quantize.static.units import Units, values_of
from onnxpress.passes.quantize.targets.profile import profile

ROWS: dict[str, dict[tuple[float, float], tuple[float, float]]] = defaultdict(dict)
SPELLED: dict[str, list[float]] = defaultdict(list)
"""Microseconds for a million numbers of what was spelled out."""
CROSSINGS: list[tuple[float, float]] = []
SESSION = 8.0
"""Microseconds that a run of a session of one small node takes."""


@dataclass(frozen=True)
class Collect(Pass):
    """Time every unit."""

    name: ClassVar[str] = "collect"
    effect: ClassVar[Effect] = Effect.EXACT
    scope: ClassVar[str] = "model"

    def run(self, graph, ctx):
        aim = profile("ort-cpu")
        units = Units(ctx.model, aim, ctx.shapes())
        values = list(values_of(units.found))
        ranges, shapes = calibrate(ctx, values), seen(ctx, values)
        known = units.known(ranges, shapes)
        emitter = Emitter(ctx, aim, parameters(known, ranges, aim))
        alone = Alone(emitter, shapes, max(13, ctx.model.opset[""]), ctx.model.ir_version)
        costs = MeasuredCosts(ctx.backend, alone, shapes)
        CROSSINGS.append((costs._quantize[1] * 1e6, costs._decode[1] * 1e6))
        for unit in known:
            macs, numbers, weight = work(unit, shapes)
            in_float, spelled, in_integers = costs.times(unit)
            if np.isfinite(in_integers) and in_float:
                ROWS[kind_of(unit, weight, shapes)][macs, numbers] = in_float, in_integers
            if np.isfinite(spelled):
                SPELLED[kind_of(unit, weight, shapes)].append((spelled - SESSION) / numbers * 1e6)


def main() -> None:
    pairs = list(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
    for model, data in pairs:
        pins = Pins()
        if ":" in data:
            data, _, text = data.partition(":")
            name, _, dims = text.partition("=")
            pins = Pins(shapes={name: tuple(map(int, dims.split("x")))})
        loaded = onnxpress.load(model)
        onnxpress.PassManager("simplify", measure=False).run(loaded)
        onnxpress.PassManager([Collect()], pins=pins, measure=False).run(loaded, data=data)
    q, d = np.median(np.array(CROSSINGS), axis=0)
    print(f"[cost]\nnode = 1.0\nquantize = {q:.0f}.0\ndecode = {d:.0f}.0")
    for kind, rows in sorted(ROWS.items()):
        work_ = np.array(list(rows)) / 1e6
        taken = np.maximum(np.array(list(rows.values())) - SESSION, 0.5)
        fits = []
        for side in (0, 1):
            scale = 1 / (taken[:, side] + 10)
            fits.append(nnls(work_ * scale[:, None], np.maximum(taken[:, side] - 1, 0) * scale)[0])
        (mac_f, num_f), (mac_i, num_i) = fits
        spelled = f", spelled = {np.median(SPELLED[kind]):.0f}" if SPELLED[kind] else ""
        print(
            f"{kind} = {{ mac = [{mac_f:.2f}, {mac_i:.2f}], number = [{num_f:.0f}, {num_i:.0f}]{spelled} }}"
            f"  # {len(rows)} sizes"
        )


if __name__ == "__main__":
    main()
