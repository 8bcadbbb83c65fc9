"""A failing pass leaves a folder that shows the failure again, here and elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

HERE = Path(__file__).parent


@pytest.fixture
def folder(cli, tmp_path, long_chain):
    code, out, err = cli("run", long_chain, "-p", "fold,crash-at-sin,dce", "-o", tmp_path / "out.onnx")
    assert (code, out, err.count("\n")) == (3, "", 1)
    found = tmp_path / "onnxpress-reproducer-1"
    assert f"pass 'crash-at-sin' failed: KeyError: 'node340'; onnxpress reproduce {found} shows it again" in err
    assert not (tmp_path / "out.onnx").exists()
    return found


def test_it_is_small_and_still_fails(cli, folder):
    names = ["README.txt", "failure.json", "model.onnx", "pipeline.txt"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert [node.op_type for node in onnx.load(folder / "model.onnx").graph.node] == ["Exp", "Sin"]
    assert (folder / "pipeline.txt").read_text() == "crash-at-sin\n"
    facts = json.loads((folder / "failure.json").read_text())
    assert (facts["nodes"], facts["nodes_before"]) == (2, 500)
    assert cli("reproduce", folder).out == "reproduced: pass 'crash-at-sin' failed: KeyError: 'node340'\n"


def test_it_fails_on_a_machine_that_has_the_plugin_alone(folder, tmp_path):
    """Another process, which knows the pass from a distribution."""
    plugin = tmp_path / "site"
    info = plugin / "harmful-1.0.dist-info"
    info.mkdir(parents=True)
    (plugin / "harmful.py").write_text((HERE / "harmful.py").read_text())
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: harmful\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[onnxpress.passes]\ncrash-at-sin = harmful:CrashAtSin\n")
    code = "from onnxpress.cli.main import main; raise SystemExit(main())"
    command = [sys.executable, "-P", "-c", code, "reproduce", str(folder)]
    for path, expected in ((str(plugin), 1), ("", 2)):
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, cwd=tmp_path, check=False
        )
        # the class has another module there, so that it is another pass to the failure's eyes: it says so
        words = "KeyError: 'node340'" if path else "unknown pass 'crash-at-sin'"
        assert words in done.stdout + done.stderr
        assert done.returncode in (0, expected), done.stderr


def test_a_folder_is_never_overwritten(cli, folder, long_chain, tmp_path):
    cli("run", long_chain, "-p", "crash-at-sin", "--reproducer", tmp_path)
    assert (tmp_path / "onnxpress-reproducer-2" / "model.onnx").is_file()
    before = sorted(tmp_path.iterdir())
    assert cli("run", long_chain, "-p", "crash-at-sin", "--no-reproducer").code == 3
    assert sorted(tmp_path.iterdir()) == before


def test_what_fails_no_more_is_exit_code_one(cli, folder):
    (folder / "pipeline.txt").write_text("fold\n")
    code, out, _ = cli("reproduce", folder)
    assert code == 1
    assert out.startswith("not reproduced: no pass fails")


def test_a_damaged_folder_is_a_mistake(cli, folder, tmp_path):
    (folder / "failure.json").write_text("{")
    for wrong in (folder, tmp_path, tmp_path / "absent"):
        code, _, err = cli("reproduce", wrong)
        assert (code, err.count("\n")) == (2, 1)
