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


CALL = "from onnxpress.cli.main import main; raise SystemExit(main())"


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


def test_it_fails_on_a_machine_that_has_the_plugin_alone(long_chain, tmp_path):
    """In processes that know the pass from a distribution: the run that fails, and another elsewhere."""
    plugin = tmp_path / "site"
    info = plugin / "harmful-1.0.dist-info"
    info.mkdir(parents=True)
    (plugin / "harmful.py").write_text((HERE / "harmful.py").read_text())
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: harmful\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[onnxpress.passes]\ncrash-at-sin = harmful:CrashAtSin\n")

    def call(*args: object, path: Path | str = plugin) -> tuple[int, str]:
        command = [sys.executable, "-P", "-c", CALL, *map(str, args)]
        env = {**os.environ, "PYTHONPATH": str(path)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=tmp_path, check=False)
        return done.returncode, done.stdout + done.stderr

    assert call("run", long_chain, "-p", "fold,crash-at-sin")[0] == 3
    (tmp_path / "onnxpress-reproducer-1").rename(tmp_path / "moved")
    long_chain.unlink()
    code, words = call("reproduce", tmp_path / "moved")
    assert (code, words) == (0, "reproduced: pass 'crash-at-sin' failed: KeyError: 'node340'\n")
    code, words = call("reproduce", tmp_path / "moved", path="")
    assert code == 2
    assert "unknown pass 'crash-at-sin'" in words


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
