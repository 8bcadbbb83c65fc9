"""What README shows in Python runs, on the embedded network."""

import re
from pathlib import Path

import numpy as np
import pytest

import onnxpress
from onnxpress.cli.demo import data

README = Path(__file__).parents[2] / "README.md"


def test_python_of_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.onnx").write_bytes(data.model_bytes())
    np.savez("calib.npz", **data.calibration())  # type: ignore[arg-type]
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {"__name__": "readme"}
    for block in blocks:
        exec(compile(block, str(README), "exec"), names)
    assert len(blocks) == 2
    assert capsys.readouterr().out.splitlines()[-1] == "within"
    report = onnxpress.PassManager("fold,drop-identity").run(onnxpress.load("model.onnx"))
    assert [step.changed for step in report.steps] == [True, True]
    assert report.after.error is not None
    assert report.after.error["unequal"] == 0
