"""The documentation's code runs, and the commands that it shows exist with their options."""

from __future__ import annotations

import re
import shlex
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import pytest

import onnxpress as op
from onnxpress.cli.main import onnxpress
from onnxpress.passes.manager import registry as registry_module
from onnxpress.passes.manager import text as text_module

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, kind: str) -> list[str]:
    return [content for found, content in BLOCK.findall(page.read_text(encoding="utf-8")) if found == kind]


def test_every_pass_has_its_specification():
    passes = registry_module.default_registry()
    own = [name for name in passes.names() if passes.owner(name).startswith("onnxpress ")]
    missing = [name for name in own if not (ROOT / "specs" / "passes" / f"{name}.md").is_file()]
    assert own
    assert not missing


@pytest.fixture
def written(monkeypatch) -> dict[str, Any]:
    """What the code for writing a pass defines, its passes known for as long as the test."""
    made = registry_module.Registry(())
    assert text_module.default_registry is registry_module.default_registry  # imported before it is replaced here
    monkeypatch.setattr(registry_module, "default_registry", lambda: made)
    monkeypatch.setattr(text_module, "default_registry", lambda: made)
    scope: dict[str, Any] = {"__name__": __name__}
    for code in blocks(ROOT / "docs" / "writing-a-pass.md", "python"):
        exec(compile(code, "writing-a-pass.md", "exec", flags=0, dont_inherit=True), scope)
    return scope


def test_the_code_for_writing_a_pass_runs(written):
    tests = [found for name, found in written.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()
    model = op.load(Path(str(files("onnxpress.cli.demo") / "digits.onnx")))
    report = op.PassManager("count-nodes{op-type=Conv}", measure=False).run(model)
    assert any("nodes are Conv" in remark.reason for remark in report.remarks)


def test_a_guard_of_that_page_declines_with_its_reason(written):
    other = written["SWISH"]
    other.graph.node[0].attribute[0].f = 0.2
    report = op.PassManager("make-hard-swish").run(op.load(other))
    assert not report.changed
    assert any("HardSwish has 1/6 and 1/2" in remark.reason for remark in report.remarks)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_exist_with_their_options(page):
    lines = [line for block in blocks(page, "sh") for line in block.splitlines() if line.startswith("onnxpress ")]
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        ctx = click.Context(onnxpress, info_name="onnxpress")
        command = onnxpress.get_command(ctx, words[0])
        assert command is not None, line
        known = {name for parameter in command.params for name in parameter.opts}
        given = {word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z][\w-]*(=.*)?", word)}
        assert given <= known, line
