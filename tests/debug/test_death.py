"""A run whose process dies says so in one line, and leaves a reproducer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest

from onnxpress.cli.supervise import Crumb, Crumbs, Trail
from onnxpress.ir import Model, lower
from onnxpress.passes.graph.dce import Dce
from onnxpress.passes.graph.fold import Fold
from onnxpress.specs import model_of

from .conftest import CALL, call_with, installed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="runs are supervised on Linux only")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return installed(tmp_path / "site")


def test_a_killed_process_leaves_a_reproducer_that_runs_elsewhere(tmp_path, site, scales):
    """As the kernel does it for want of memory; nothing can be said from inside."""
    out = tmp_path / "there"
    out.mkdir()
    code, words = call_with(site, "run", scales, "-p", "dce,spoil{how=kill}", "-o", out / "small.onnx", "--quiet")
    folder = out / "onnxpress-reproducer-1"
    assert (code, words) == (
        3,
        "onnxpress: error: pass 'spoil{how=kill}' (a pass of harmful 1.0, harmful:Spoil) failed: "
        "SIGKILL ended the process; "
        f"onnxpress reproduce {folder} shows it again\n",
    )
    assert [path.name for path in out.iterdir()] == [folder.name]
    assert len(onnx.load(folder / "model.onnx").graph.node) == 1
    assert json.loads((folder / "failure.json").read_text())["failure"]["kind"] == "SIGKILL"
    code, words = call_with(site, "reproduce", folder)
    assert (code, words.splitlines()[-1]) == (0, "reproduced: pass 'spoil{how=kill}': SIGKILL ended the process")
    (folder / "pipeline.txt").write_text("dce\n")
    code, words = call_with(site, "reproduce", folder)
    assert (code, "the run comes to its end" in words) == (1, True)


def test_a_process_that_ends_itself_is_not_taken_for_one_that_is_done(tmp_path, site, scales):
    """Its exit code is 0, which says that all went well."""
    asked = ("-p", "repeat{times=1}(dce,spoil{how=exit})", "-o", tmp_path / "out.onnx", "--no-reproducer", "--quiet")
    code, words = call_with(site, "run", scales, *asked)
    assert (code, words) == (
        3,
        "onnxpress: error: pass 'spoil{how=exit}' failed: exit code 0 ended the process\n",
    )
    assert not (tmp_path / "out.onnx").exists()


def started(site: Path, scales: Path) -> subprocess.Popen[str]:
    """A run that hangs in its pass."""
    (site / "slow.py").write_text(
        "import os, time\ndef feeds():\n    print(os.getpid(), flush=True)\n    time.sleep(60)\n    yield {}\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", CALL, "run", str(scales), "-p", "dce", "--data", "slow:feeds"],
        env={**os.environ, "PYTHONPATH": str(site)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=site,
    )


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_who_ends_the_process_ends_its_child(site, scales, sent):
    process = started(site, scales)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    assert child != process.pid
    process.send_signal(sent)
    assert process.wait(30) == -sent
    for _ in range(100):
        if not is_alive(child):
            break
        time.sleep(0.1)
    assert not is_alive(child)
    assert process.communicate()[1] == ""


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_codes_and_words_of_the_child_are_those_of_the_call(tmp_path, site, scales):
    code, words = call_with(site, "run", scales, "-p", "nothing-such")
    assert (code, words.count("onnxpress: error: ")) == (2, 1)
    code, words = call_with(site, "run", scales, "-p", "dce", "--quiet", "-o", tmp_path / "out.onnx")
    assert (code, words) == (0, "")
    assert (tmp_path / "out.onnx").is_file()


def test_what_is_registered_in_the_child_runs_at_its_end(tmp_path, site, scales):
    """The child leaves by `os._exit`, which runs nothing by itself."""
    left = tmp_path / "left"
    (site / "tidy.py").write_text(
        "import atexit, pathlib\nimport numpy as np\n"
        f"def feeds():\n    atexit.register(pathlib.Path({str(left)!r}).touch)\n    yield {{'x': np.ones(1)}}\n"
    )
    code, words = call_with(site, "run", scales, "-p", "dce", "--data", "tidy:feeds", "--quiet")
    assert (code, left.exists()) == (2, True), words


def test_crumbs_tell_the_innermost_pass_under_way():
    model: Model = lower(model_of("g (float[1] x) => (float[1] y) { y = Abs(x) }"))
    trail = Trail()
    crumbs = Crumbs(trail)
    assert trail.read() == (False, Crumb(0, False, ""))
    crumbs.before(Fold(), model)
    crumbs.before(Dce(), model)
    assert trail.read() == (False, Crumb(2, True, "dce"))
    crumbs.after(Dce(), model, False)
    assert trail.read() == (False, Crumb(1, True, "fold"))
    crumbs.failed(Fold(), model, KeyError())
    assert trail.read() == (False, Crumb(1, False, "fold"))
    trail.end()
    assert trail.read()[0]
    trail.write(Crumb(3, True, "x" * 100_000))
    ended, crumb = trail.read()
    assert (ended, crumb.number) == (False, 3)
    assert set(crumb.text) == {"x"}
