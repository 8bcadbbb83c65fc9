"""Task score against bytes: truncated SVD as it is, and in the norm of the activations.

    python bench/factorize_curve.py MODEL.onnx --data CALIB.npz --task COMMAND [--save FILE.json] [--sizes 0.9 0.8 ...]
                                     [--also "exclude=[*embeddings*]"]
    python bench/factorize_curve.py --draw FILE.json ... --plot FILE.svg

At each size all of `factorize{bytes=SIZE latency=any methods=[svd]}` is the same but the norm: `plain` is
`whiten=off`, `whitened` weighs errors by the second moments of the inputs, `refitted` also fits each layer to what the
layers before it left; `--also` are further options of all. Prints a table, `--save` keeps it; `--draw` puts what was
kept side by side in one picture (needs matplotlib: the extra `report`).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from factorize import measured, scored

SIZES = (0.9, 0.8, 0.7, 0.6, 0.5)
KINDS = {"plain": "whiten=off", "whitened": "refit=off", "refitted": "refit=on"}


@dataclass(frozen=True)
class Curves:
    """Of one model: points (share of the bytes, score) of each kind."""

    title: str
    metric: str
    original: float
    points: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def draw(kept: list[Curves], file: Path) -> None:
    """The curves as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"svg.hashsalt": "onnxpress", "svg.fonttype": "none"})
    figure, all_axes = pyplot.subplots(1, len(kept), figsize=(5 * len(kept), 3.6), squeeze=False)
    for axes, curves in zip(all_axes[0], kept, strict=True):
        axes.axhline(curves.original, color="black", linewidth=0.8, label="original")
        for kind, points in curves.points.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=f"{kind} SVD")
        axes.set(xlabel="bytes, share of the original", ylabel=curves.metric, title=curves.title)
        axes.invert_xaxis()
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(file, bbox_inches="tight", metadata={"Date": None})


def curves_of(given: argparse.Namespace) -> Curves:
    """Run all sizes and kinds, and print the table."""
    original = scored(given.task, given.model)
    assert original is not None
    print(f"original: {original:.4f}\n\n| goal | {' | '.join(f'bytes | {kind}' for kind in given.kinds)} |")
    print(f"| --- |{' --- |' * 2 * len(given.kinds)}", flush=True)
    found = Curves(given.title or given.model.stem, given.metric, original, {kind: [] for kind in given.kinds})
    for size in given.sizes:
        line = [f"bytes={size}"]
        for kind in given.kinds:
            pipeline = f"simplify,factorize{{bytes={size} latency=any methods=[svd] {KINDS[kind]} {given.also}}}"
            result = measured(given.model, pipeline, given.data, given.task)
            assert result.score is not None
            found.points[kind].append((round(result.bytes, 4), result.score))
            line += [f"{result.bytes:.3f}", f"{result.score:.4f}"]
        print(f"| {' | '.join(line)} |", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--data")
    parser.add_argument("--task")
    parser.add_argument("--title", help="of the picture")
    parser.add_argument("--metric", default="score", help="what the task's score is called")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--sizes", type=float, nargs="+", default=SIZES)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--also", default="")
    parser.add_argument("--draw", type=Path, nargs="+")
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    if given.draw:
        draw([Curves(**json.loads(file.read_text())) for file in given.draw], given.plot)
        return
    if not (given.model and given.data and given.task):
        parser.error("a model, --data and --task are needed, or --draw")
    curves = curves_of(given)
    if given.save:
        given.save.write_text(json.dumps(asdict(curves), indent=1) + "\n")


if __name__ == "__main__":
    main()
