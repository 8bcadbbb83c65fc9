"""CPU seconds that `onnxpress --version` takes, against `python -c pass`.

    python bench/startup.py [--rounds 21]

Runs of the two are interleaved and the medians compared. Measure a plain install: an editable one starts slower.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

ALLOWED = 0.1
"""CPU seconds that the command may cost more."""


def cpu_seconds(command: list[str]) -> float:
    """User and system time of one run."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    command = [str(Path(sys.executable).with_name("onnxpress")), "--version"]
    nothing = [sys.executable, "-c", "pass"]
    times = [(cpu_seconds(nothing), cpu_seconds(command)) for _ in range(rounds)]
    least, taken = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"python -c pass       {least:.3f} s")
    print(f"onnxpress --version  {taken:.3f} s")
    print(f"difference           {taken - least:.3f} s (allowed: {ALLOWED})")
    return int(taken - least > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
