"""The example plugin: built, installed, used, tested by its own tests, and uninstalled, in a fresh environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "plugin"
CALL = "from onnxpress.cli.main import main; raise SystemExit(main())"


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the plugin, since building leaves files behind."""
    target = tmp_path_factory.mktemp("plugin") / "plugin"
    shutil.copytree(EXAMPLE, target)
    return target


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment that sees what this one has installed."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    parents = sysconfig.get_paths()["purelib"]
    (packages / "parent.pth").write_text(f"import site; site.addsitedir({parents!r})\n")
    return folder / "bin" / "python"


def test_install_use_test_uninstall(copy, python, tmp_path):
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", tmp_path, copy, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    run(*pip, "--python", python, "install", "-q", "--no-deps", "--no-index", wheel, cwd=tmp_path)

    told = run(python, "-P", "-c", CALL, "passes", "tanh-gelu", cwd=tmp_path)
    assert "onnxpress-tanh-gelu" in told
    assert " passed" in run(python, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=copy)

    run(*pip, "--python", python, "uninstall", "-q", "-y", "onnxpress-tanh-gelu", cwd=tmp_path)
    assert "tanh-gelu" not in run(python, "-P", "-c", CALL, "passes", cwd=tmp_path)
    command = [str(python), "-P", "-c", CALL, "passes", "tanh-gelu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "onnxpress: error: unknown pass 'tanh-gelu'\n")
