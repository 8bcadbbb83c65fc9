"""Imports go one way: cli -> passes -> ir and backends -> ir; errors and atomic are leaves; specs may import all."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OUTSIDE = {"tests", "bench", "examples", "docs", "build", "dist"}
"""Folders of the checkout that are no part of the package."""

LAYERS = {
    "errors": set(),
    "atomic": {"errors"},
    "ir": {"errors"},
    "passes": {"errors", "atomic", "ir"},
    "backends": {"errors", "atomic", "ir"},
    "specs": {"errors", "ir", "passes", "backends", "cli", "api", ""},
    "api": {"errors", "ir", "passes", "backends", ""},
    "cli": {"errors", "atomic", "ir", "passes", "backends", "specs", "api", ""},
    "": {"errors", "ir", "passes", "backends", "api"},
}
"""What each part of the package may import of the others; the root's own `__init__` is the empty name."""

THIRD_PARTY = {
    "errors": set(),
    "atomic": set(),
    "ir": {"numpy", "onnx", "networkx", "ml_dtypes", "google"},
    "passes": {"numpy", "onnx", "networkx", "ml_dtypes", "scipy", "threadpoolctl"},
    "backends": {"numpy", "onnx", "ml_dtypes", "onnxruntime", "google"},
    "specs": {"numpy", "onnx", "ml_dtypes", "hypothesis"},
    "api": {"numpy", "onnx"},
    "cli": {"numpy", "onnx", "click", "rich", "networkx", "threadpoolctl"},
    "": set(),
}
"""What comes from elsewhere. `google` is protobuf, which onnx is made of and depends on."""

DISTRIBUTIONS = {"ml_dtypes": "ml_dtypes", "google": "onnx"}
"""Import names whose distribution, in the package's requirements, is called otherwise."""


def package_folders() -> list[Path]:
    """Every folder of the checkout that holds modules of the package."""
    top = [d for d in ROOT.iterdir() if d.is_dir() and d.name not in OUTSIDE and not d.name.startswith(".")]
    inside = [d for folder in top for d in (folder, *folder.rglob("*")) if d.is_dir() and any(d.glob("*.py"))]
    return [ROOT, *sorted(inside)]


def modules() -> list[Path]:
    return [path for folder in package_folders() for path in sorted(folder.glob("*.py"))]


def part_of(relative: Path) -> str:
    """The part of the package that a module belongs to: a folder at its root, a module there, or the root itself."""
    first = relative.parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """All absolute module names that a module imports, at any depth of its code, with line numbers.

    Of `from package import name` the name is part of it, since it may be a module.
    """
    package = ["onnxpress", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{target}.{alias.name}") for alias in node.names)


def inner_part(name: str) -> str | None:
    """The part of the package that a module name lies in; None if it is not of the package."""
    words = name.split(".")
    if words[0] != "onnxpress":
        return None
    known = len(words) > 1 and ((ROOT / words[1]).is_dir() or (ROOT / f"{words[1]}.py").is_file())
    return words[1] if known else ""


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_obey_the_arrows(path: Path) -> None:
    part = part_of(path.relative_to(ROOT))
    assert part in LAYERS, f"{part} is not in the table of layers"
    faults = []
    for line, name in imports(path):
        inner, top = inner_part(name), name.partition(".")[0]
        if inner is not None:
            allowed = inner == part or inner in LAYERS[part]
        else:
            allowed = top in sys.stdlib_module_names or top in THIRD_PARTY[part]
        if not allowed:
            faults.append(f"{path}:{line}: {part or 'the root'} must not import {name}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_of_the_package_are_relative(path: Path) -> None:
    tree = ast.parse(path.read_text(), str(path))
    absolute = [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    absolute += [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and not n.level]
    assert not [name for name in absolute if name.partition(".")[0] == "onnxpress"]


def test_every_import_is_a_declared_requirement() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    names = {text.split(">")[0].split("=")[0].strip() for text in declared}
    used = {name.partition(".")[0] for path in modules() for _, name in imports(path)}
    outside = used - sys.stdlib_module_names - {"onnxpress"}
    assert {DISTRIBUTIONS.get(name, name) for name in outside} <= names


def test_packages_are_listed() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = [".".join(["onnxpress", *folder.relative_to(ROOT).parts]) for folder in package_folders()]
    assert sorted(tool["packages"]) == sorted(folders)
    assert not [folder for folder in package_folders() if not (folder / "__init__.py").is_file()]
