"""Profiles of hypothesis: `ci` is short and the same on every run, `fuzz` is long and never the same.

`pytest --hypothesis-profile=fuzz` chooses, and so does the environment variable ONNXPRESS_FUZZ=1. At the end of a run
it is said how many of onnx's conformance cases the passes changed: tests of cases left as they were show little.

Workers of xdist share the cores, so each gives BLAS one thread: threads that wait for each other take several times the
time of the work itself.
"""

import os
from collections import Counter

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is loaded, which reads it

settings.register_profile("ci", max_examples=40, derandomize=True, deadline=None, database=None)
settings.register_profile("fuzz", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile("fuzz" if os.environ.get("ONNXPRESS_FUZZ") == "1" else "ci")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count what the conformance tests noted, here because only this file is read where workers report to."""
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, []) if r.when == "call"]
    noted = Counter(value for report in reports for key, value in report.user_properties if key == "conformance")
    for pipeline in dict.fromkeys(pipeline for pipeline, _ in noted):
        changed, kept = noted[pipeline, True], noted[pipeline, False]
        terminalreporter.write_line(f"conformance: {pipeline} changed {changed} of {changed + kept} cases")
