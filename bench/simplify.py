"""Simplifying side by side: onnxpress and other tools on the same models, each in a process of its own.

    python bench/simplify.py MODEL.onnx ... [-p PIPELINE ...] [--python PYTHON] [--extended] [--measure]
                             [--rounds 3] [--shape NAME=1x3x48x320] [--value NAME=16000]

`--python` names the interpreter that has the other tools (onnxsim, onnxslim, onnxscript; onnxruntime); onnxpress runs
in this one, without measuring errors unless `--measure` is given. onnxsim is shown twice: its command, as users run it
and as onnxpress runs, and a script that loads the model, calls `onnxsim.simplify` and saves, which takes less. What it
takes depends on what else is installed: it imports SymPy if that is there. Shown are, of the whole process from start
to written file, CPU seconds (user and system, the least of the rounds, in which all take turns) and peak memory; of the
result the nodes (without Constants, bodies and functions counted), the bytes, whether it passes onnx's full check, its
largest error against the original over generated inputs of several sizes in the reference configuration, and how long a
run takes against one of the original (one thread, optimizations on, interleaved: medians of the ratios of wall-clock
time and of CPU time, which other processes disturb less). Below stands which of the limits hold that onnxpress sets
itself. With `--rounds 1` a model takes about half a minute.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from real_models import SLOWER_AT_MOST, pins_for

import onnxpress
from onnxpress.backends.interface import Pins
from onnxpress.backends.latency import Latency
from onnxpress.cli.timing import time_models
from onnxpress.specs.validity import fault_of

IMPORTS = "import numpy, onnx, onnxruntime"
TOOL = "import sys; from onnxpress.cli.main import main; sys.exit(main())"
LAUNCH = """
import os, sys
child = os.fork()
if not child:
    os.dup2(2, 1)
    os.execvp(sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(child, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""
"""A process's peak memory is at least that of the one that it was forked from, so a small one starts each."""
FLAGS = ("--no-measure", "--quiet")
"""The flags of `onnxpress run`: the other tools measure no errors either."""
ORT = """
import sys, onnxruntime as ort
options = ort.SessionOptions()
options.log_severity_level = 4
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_{level}
options.optimized_model_filepath = sys.argv[2]
ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
"""
LOADED = "import sys, onnx, {module}\nmodel = onnx.load(sys.argv[1])\nonnx.save({call}, sys.argv[2])\n"
CALL = "onnxsim (call)"
PEERS = {
    "onnxsim": "import sys; from onnxsim import main; sys.exit(main())",
    CALL: LOADED.format(module="onnxsim", call="onnxsim.simplify(model)[0]"),
    "onnxslim": LOADED.format(module="onnxslim", call="onnxslim.slim(model)"),
    "onnxscript": LOADED.format(module="onnxscript.optimizer", call="onnxscript.optimizer.optimize(model)"),
    "ort basic": ORT.format(level="BASIC"),
}
EXTENDED = {"ort extended": ORT.format(level="EXTENDED")}
NEAR = {"rel-l2": 1e-3, "max-abs": 1e-4}
"""A result is right if one of the two holds for every output."""


@dataclass(frozen=True)
class Process:
    """What a process took, and what it said if it failed."""

    cpu: float
    peak: float
    failure: str = ""


@dataclass(frozen=True)
class Result:
    """What a tool made of a model, and what that took."""

    tool: str
    process: Process
    nodes: int = 0
    size: int = 0
    fault: str = ""
    error: str = ""
    right: bool = False
    latency: Latency | str = ""

    @property
    def usable(self) -> bool:
        return not self.process.failure and not self.fault and self.right


def run(command: list[str], folder: Path) -> Process:
    """Run a process to its end; CPU seconds and MB, what it starts itself included."""
    launched = [sys.executable, "-S", "-E", "-c", LAUNCH, *command]
    done = subprocess.run(launched, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    code, cpu, peak = done.stdout.split()[-3:]
    said = [line for line in done.stderr.splitlines() if line.strip()]
    failure = (said[-1].strip() if said else f"exit code {code}") if int(code) else ""
    return Process(float(cpu), float(peak) / 1024, failure)


def least(commands: Mapping[str, list[str]], folder: Path, rounds: int) -> dict[str, Process]:
    """The least of several rounds, in which the commands take turns; one that failed sits out."""
    found: dict[str, Process] = {}
    for _ in range(rounds):
        for name, command in commands.items():
            before = found.get(name)
            if before is not None and before.failure:
                continue
            now = run(command, folder)
            if before is not None and not now.failure:
                now = Process(min(before.cpu, now.cpu), min(before.peak, now.peak))
            found[name] = now
    return found


def ours(source: Path, target: Path, pipeline: str, flags: tuple[str, ...]) -> list[str]:
    """How onnxpress is run: as its command runs."""
    return [sys.executable, "-c", TOOL, "run", str(source), "-p", pipeline, "-o", str(target), *flags]


def nodes_of(path: Path) -> int:
    model = onnxpress.load(path)
    return sum(not node.is_op("Constant") for graph in model.walk_graphs() for node in graph.nodes)


def judged(tool: str, process: Process, source: Path, target: Path, pins: Pins) -> Result:
    """Look at what a tool wrote."""
    if process.failure:
        return Result(tool, process)
    comparison = onnxpress.compare(source, target, pins=pins)
    errors = {m: max((v[m] for s in comparison.samples for v in s.values()), default=0.0) for m in NEAR}
    near = any(errors[metric] <= limit for metric, limit in NEAR.items())
    words = f"{errors['max-abs']:.1e}" if comparison.samples else "not checked"
    latency = time_models(onnxpress.load(source), onnxpress.load(target), data=None, pins=pins, seed=0)
    return Result(
        tool,
        process,
        nodes_of(target),
        target.stat().st_size,
        fault_of(onnx.load(target)),
        comparison.mismatches[0] if comparison.mismatches else words,
        bool(comparison.samples) and not comparison.mismatches and near,
        latency,
    )


def line(result: Result) -> str:
    process = result.process
    if "ModuleNotFoundError" in process.failure:
        return f"  {result.tool:24} skipped: {process.failure.split(':', 1)[1].strip()}"
    if process.failure:
        return f"  {result.tool:24} failed after {process.cpu:.2f} s: {process.failure[:80]}"
    valid = "valid" if not result.fault else f"INVALID: {' '.join(result.fault.split())[:60]}"
    right = "" if result.right else " WRONG"
    latency = result.latency
    ratios = latency[:20] if isinstance(latency, str) else f"{latency.ratio:5.2f} x (CPU {latency.cpu_ratio:.2f} x)"
    return (
        f"  {result.tool:24} {result.nodes:6} nodes {result.size:11} bytes {process.cpu:6.2f} s {process.peak:6.0f} MB"
        f"  {ratios}  error {result.error}{right}  {valid}"
    )


def limits(mine: Result, peers: dict[str, Result], imports: Process, size: int) -> list[str]:
    """Each limit with the numbers on both sides, and whether it holds."""
    if mine.process.failure:
        return []
    best = min((peer.nodes for tool, peer in peers.items() if tool in PEERS and peer.usable), default=None)
    basic = peers["ort basic"].process
    cpu = mine.process.cpu
    found: list[tuple[str, float, float]] = [("bytes, those of the input", mine.size, size)]
    if best is not None:
        found.append(("nodes, those of the best peer", mine.nodes, best))
    for tool, words in (("onnxsim", "onnxsim's command"), (CALL, "a script that calls onnxsim.simplify")):
        if not peers[tool].process.failure:
            found.append((f"CPU s, a third of {words}", cpu, peers[tool].process.cpu / 3))
    if not basic.failure:
        found.append(("CPU s without imports, 0.5 + 1.5 x ort basic", cpu - imports.cpu, 0.5 + 1.5 * basic.cpu))
        found.append(("MB, 1.5 x ort basic", mine.process.peak, 1.5 * basic.peak))
    if not isinstance(mine.latency, str):
        found.append(("CPU time of a run, that of the original and 3 %", mine.latency.cpu_ratio, SLOWER_AT_MOST))
    said = {True: "holds ", False: "BROKEN"}
    return [f"    {said[value <= most]} {value:.6g} <= {most:.6g}  {words}" for words, value, most in found]


def bench(path: Path, asked: argparse.Namespace, imports: Process, pins: Pins) -> None:
    """One block of lines for a model."""
    path, pins = path.resolve(), pins_for(path, pins)
    size = path.stat().st_size
    print(f"{path.stem}: {nodes_of(path)} nodes, {size} bytes")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        codes = {**PEERS, **(EXTENDED if asked.extended else {})}
        mine = {f"onnxpress {pipeline}": pipeline for pipeline in asked.pipeline}
        targets = {tool: folder / f"{number}.onnx" for number, tool in enumerate([*codes, *mine])}
        commands = {tool: [asked.python, "-c", code, str(path), str(targets[tool])] for tool, code in codes.items()}
        commands |= {tool: ours(path, targets[tool], text, flags_of(asked)) for tool, text in mine.items()}
        took = least(commands, folder, asked.rounds)
        peers: dict[str, Result] = {}
        for tool in codes:
            peers[tool] = judged(tool, took[tool], path, targets[tool], pins)
            print(line(peers[tool]), flush=True)
        for tool in mine:
            result = judged(tool[:24], took[tool], path, targets[tool], pins)
            print(line(result))
            print("\n".join(limits(result, peers, imports, size)), flush=True)


def flags_of(asked: argparse.Namespace) -> tuple[str, ...]:
    return FLAGS[1:] if asked.measure else FLAGS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("-p", "--pipeline", action="append", help="may be repeated (simplify)")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the other tools")
    parser.add_argument("--extended", action="store_true", help="show onnxruntime's extended optimizations, too")
    parser.add_argument("--measure", action="store_true", help="let onnxpress measure errors, as it does by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", action="append", default=[], metavar="NAME=AxB")
    parser.add_argument("--value", action="append", default=[], metavar="NAME=V")
    asked = parser.parse_args()
    asked.pipeline = asked.pipeline or ["simplify"]
    with tempfile.TemporaryDirectory() as folder:
        imports = least({IMPORTS: [sys.executable, "-c", IMPORTS]}, Path(folder), asked.rounds)[IMPORTS]
    print(f"{IMPORTS}: {imports.cpu:.2f} s, {imports.peak:.0f} MB")
    print(f"onnxpress runs as: onnxpress run MODEL -p PIPELINE -o OUT {' '.join(flags_of(asked))}")
    for path in asked.models:
        bench(path, asked, imports, Pins.parse(asked.shape, asked.value))


if __name__ == "__main__":
    main()
