"""`onnxpress demo`: what onnxpress does, shown on a small network that ships with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..options import TargetPath, debug_option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...backends.latency import Latency
    from ...ir import Model
    from ...passes.manager.report import Report

_FEEDS = "the calibration images (one alone, for which MACs are counted, then all together)"
PIPELINE = "fold,dce,quantize-insert{mode=weight-only}"


@click.command("demo", short_help="Compress a small network that ships with onnxpress.")
@click.option("-p", "--pipeline", default=PIPELINE, show_default=True, metavar="PIPELINE", help="The passes to run.")
@click.option("-o", "--output", metavar="OUT", type=TargetPath(), help="Keep the compressed network.")
@debug_option
def command(pipeline: str, output: Path | None) -> None:
    """Compress a small network that reads handwritten digits, and show what it gains and costs.

    The network and its test images ship with onnxpress; nothing is downloaded or written.
    """
    from ...passes.manager.named import text_of
    from ...passes.manager.text import parse_pipeline
    from ..checks import check_target
    from ..progress import bars

    passes = parse_pipeline(text_of(pipeline))
    if output is not None:
        check_target(output, "-o")
    from ...api import save

    with bars() as progress, progress.working("compressing"):
        found = _compressed(str(passes))
    _show(found)
    if output is not None:
        save(found.model, output)
        click.echo(f"\nWrote {output}.")


@dataclass(frozen=True)
class _Found:
    model: Model
    report: Report
    latency: Latency | str
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    labels: NDArray[np.int64]


def _compressed(pipeline: str) -> _Found:
    from ...api import PassManager, load
    from ...backends.interface import Pins
    from ...backends.samples import Samples
    from ...ir import clone_model
    from ..timing import time_models
    from . import data

    original = load(data.model_bytes())
    model = clone_model(original)
    images = data.calibration()[data.INPUT]
    feeds = Samples(_FEEDS, 2, lambda: iter([{data.INPUT: images[:1]}, {data.INPUT: images}]))
    report = PassManager(pipeline).run(model, data=feeds)
    latency = time_models(original, model, data=feeds, pins=Pins(), seed=0)
    tests, labels = data.test_set()
    before, after = (_outputs(one, {data.INPUT: tests}, data.OUTPUT) for one in (original, model))
    return _Found(model, report, latency, before, after, labels)


def _outputs(model: Model, feed: dict[str, Any], name: str) -> NDArray[np.float32]:
    """The output called `name` as a deployed model gives it."""
    from ...backends import default_backend

    outputs: NDArray[np.float32] = default_backend().prepare(model, optimize=True).run(feed)[name]
    return outputs


def _show(found: _Found) -> None:
    from ..report_tables import show_steps
    from ..tables import show_table

    click.echo("A network that reads handwritten digits, 8 x 8 pixels, goes through the pipeline")
    click.echo(f"  {found.report.pipeline or '(empty)'}")
    show_steps(found.report, stderr=False)
    show_table(("", "before", "after", "change"), _rows(found), text=(0, 3), title="What it comes to")
    for line in _HOW_TO_READ:
        click.echo(line)


_HOW_TO_READ = (
    "",
    "size       the file on disk",
    "MACs       multiply-accumulates of one run on one image: the arithmetic to do",
    "latency    time of one run on one image, one thread, the runtime's optimizations on",
    "rel-l2     size of the error relative to the size of the outputs; SQNR is the same in dB",
    "arg-max    share of images for which the network still picks the same digit",
    "",
    "Try it on a model of your own:",
    f"  onnxpress run model.onnx -p '{PIPELINE}' -o small.onnx",
)


def _rows(found: _Found) -> list[tuple[str, str, str, str]]:
    from ..words import bytes_text, count_text, ratio_text

    before, after = found.report.before, found.report.after
    return [
        (
            "size",
            bytes_text(before.file_bytes),
            bytes_text(after.file_bytes),
            ratio_text(after.file_bytes, before.file_bytes),
        ),
        (
            "MACs",
            count_text(before.cost.macs),
            count_text(after.cost.macs),
            ratio_text(after.cost.macs, before.cost.macs),
        ),
        _latency_row(found.latency),
        _accuracy_row(found),
    ]


def _latency_row(latency: Latency | str) -> tuple[str, str, str, str]:
    from ..words import seconds_text

    if isinstance(latency, str):
        return "latency", "-", "-", latency
    before, after = (seconds_text(micros / 1e6) for micros in (latency.median_a_us, latency.median_b_us))
    return "latency", before, after, f"{latency.ratio:.2f} x"


def _accuracy_row(found: _Found) -> tuple[str, str, str, str]:
    from ..words import share_text
    from .data import accuracy

    before, after = (accuracy(logits, found.labels) for logits in (found.before, found.after))
    change = round((after - before) * len(found.labels))
    images = "unchanged" if not change else f"{change:+d} of {len(found.labels)} images"
    return f"accuracy on {len(found.labels)} test images", share_text(before), share_text(after), images
