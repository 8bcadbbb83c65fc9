"""The wheel: what `pip install` puts on a machine is the whole package, and the tests run against what is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

import onnxpress

ROOT = Path(__file__).parents[2]
NOT_SHIPPED = {"tests", "bench", "examples", "docs"}
IMPORT_ALL = """
import importlib, pkgutil, sys
import onnxpress
names = [m.name for m in pkgutil.walk_packages(onnxpress.__path__, "onnxpress.")]
for name in names:
    importlib.import_module(name)
print(onnxpress.__file__)
print(*names)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the checkout, so that building leaves nothing in it."""
    source, out = tmp_path_factory.mktemp("source") / "checkout", tmp_path_factory.mktemp("wheel")
    junk = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info")
    shutil.copytree(ROOT, source, ignore=junk)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel's content, as an installer would lay it out."""
    target = tmp_path_factory.mktemp("target")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def test_every_module_imports_from_the_wheel(installed: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-P", "-W", "error", "-c", IMPORT_ALL]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, cwd=installed, env=environment
    )
    assert done.returncode == 0, done.stderr
    origin, names = done.stdout.splitlines()
    assert Path(origin) == installed / "onnxpress" / "__init__.py"
    files = [path.relative_to(installed) for path in (installed / "onnxpress").rglob("*.py")]
    on_disk = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files}
    assert {"onnxpress", *names.split()} == on_disk


def test_the_wheel_holds_every_module_of_the_checkout(installed: Path) -> None:
    shipped = {path.relative_to(installed / "onnxpress") for path in (installed / "onnxpress").rglob("*.py")}
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = [ROOT.joinpath(*package.split(".")[1:]) for package in packages]
    assert shipped == {path.relative_to(ROOT) for folder in folders for path in folder.glob("*.py")}
    assert not {path.parts[0] for path in shipped} & NOT_SHIPPED


@pytest.mark.parametrize(
    "name",
    ["py.typed", "cli/demo/digits.onnx", "cli/demo/calib.npz", "cli/demo/test.npz", "cli/demo/README.md"],
)
def test_data_is_in_the_wheel(installed: Path, name: str) -> None:
    assert (installed / "onnxpress" / name).read_bytes() == (ROOT / name).read_bytes()


def test_licences_and_command_are_in_the_wheel(installed: Path) -> None:
    (info,) = installed.glob("onnxpress-*.dist-info")
    assert (info / "licenses" / "LICENSE").is_file()
    points = (info / "entry_points.txt").read_text()
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"onnxpress = {declared['scripts']['onnxpress']}" in points
    for name, place in declared["entry-points"]["onnxpress.passes"].items():
        assert f"{name} = {place}" in points


def test_the_tests_run_against_the_installed_package() -> None:
    """The checkout's root is a package too, named by its folder: it must not be what the tests import."""
    found = {Path(str(d.locate_file(""))).resolve(): d for d in distributions(name="onnxpress")}
    found.pop(ROOT, None)  # what a build leaves in the checkout
    (site, installed), *others = found.items()
    assert not others, f"onnxpress is installed more than once: {[site, *dict(others)]}"
    origin = json.loads(installed.read_text("direct_url.json") or "{}")
    editable = origin.get("dir_info", {}).get("editable", False)
    assert Path(str(onnxpress.__file__)).resolve().parent == (ROOT if editable else site / "onnxpress")
