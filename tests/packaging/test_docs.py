"""The documentation's code runs, and the commands that it shows exist with their options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

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


def test_the_code_for_writing_a_pass_runs(monkeypatch):
    made = registry_module.Registry(())
    assert text_module.default_registry is registry_module.default_registry  # imported before it is replaced here
    monkeypatch.setattr(registry_module, "default_registry", lambda: made)
    scope: dict[str, object] = {"__name__": __name__}
    for code in blocks(ROOT / "docs" / "writing-a-pass.md", "python"):
        exec(compile(code, "writing-a-pass.md", "exec", flags=0, dont_inherit=True), scope)
    test = scope["test_drop_neg_pairs"]
    assert callable(test)
    test()


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
