"""Rolling back costs no copy of the weights: the peak of a guard is that of its inside, measured in fresh processes."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "guard_memory.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("guard_memory", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells the peak of one process alone")
def test_a_guard_that_rolls_back_takes_no_more_memory_than_its_inside(bench):
    alone, guarded, largest = bench.peaks(128, 16, "quantize-insert{rounding=nearest clip=none bias-correction=false}")
    assert guarded["peak"] <= alone["peak"] * (1 + bench.ALLOWED) + largest
    assert alone["peak"] > 128 << 20, "the weights were not read"
