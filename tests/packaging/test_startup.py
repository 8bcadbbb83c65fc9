"""What is imported when: the command line answers quickly because heavy modules load when first needed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import onnxpress

HEAVY = {"onnx", "onnxruntime", "numpy", "networkx", "rich", "ml_dtypes", "google", "hypothesis"}
LIGHT_MODULES = [
    "onnxpress",
    "onnxpress.errors",
    "onnxpress.passes.manager.base",
    "onnxpress.passes.manager.options",
    "onnxpress.passes.manager.registry",
    "onnxpress.passes.manager.text",
    "onnxpress.cli.main",
]
RUN = "from onnxpress.cli.main import main; sys.exit(main())"


def loaded_by(code: str, *arguments: str) -> tuple[str, set[str]]:
    """What a fresh interpreter prints when it runs `code`, and the top-level modules that it has loaded at the end."""
    script = f"""
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})), file=sys.stderr))
{code}
"""
    command = [sys.executable, "-P", "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    *errors, names = done.stderr.splitlines()
    assert not errors, done.stderr
    return done.stdout, set(json.loads(names))


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_modules_of_the_start_are_light(module: str) -> None:
    _, loaded = loaded_by(f"import {module}")
    assert not loaded & HEAVY


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_answers_need_no_heavy_module(option: str) -> None:
    printed, loaded = loaded_by(RUN, option)
    assert "onnxpress" in printed
    assert not loaded & HEAVY


def test_version_is_the_installed_one() -> None:
    printed, _ = loaded_by(RUN, "--version")
    assert printed == f"onnxpress {onnxpress.__version__}\n"


def test_each_name_of_the_root_is_there() -> None:
    for name in onnxpress.__all__:
        assert getattr(onnxpress, name) is not None


def test_a_name_that_is_not_there_is_an_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = onnxpress.no_such_name
