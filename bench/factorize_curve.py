"""Task score against bytes: truncated SVD as it is, and in the norm of the activations.

    python bench/factorize_curve.py MODEL.onnx --data CALIB.npz --task COMMAND [--plot FILE.png] [--sizes 0.9 0.8 ...]
                                     [--also "exclude=[*embeddings*]"]

At each size all of `factorize{bytes=SIZE latency=any methods=[svd]}` is the same but the norm: `plain` is
`whiten=off`, `whitened` weighs errors by the second moments of the inputs, `refitted` also fits each layer to what the
layers before it left; `--also` are further options of all. Prints a table; `--plot` draws it (needs matplotlib: the
extra `report`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from factorize import measured, scored

SIZES = (0.9, 0.8, 0.7, 0.6, 0.5)
KINDS = {"plain": "whiten=off", "whitened": "refit=off", "refitted": "refit=on"}


def draw(file: Path, title: str, original: float, curves: dict[str, list[tuple[float, float]]]) -> None:
    """The curves as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    axes.axhline(original, color="black", linewidth=0.8, label="original")
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set(xlabel="bytes, share of the original", ylabel="score", title=title)
    axes.invert_xaxis()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=120, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--sizes", type=float, nargs="+", default=SIZES)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--also", default="")
    given = parser.parse_args()
    original = scored(given.task, given.model)
    assert original is not None
    print(f"original: {original:.4f}\n\n| goal | {' | '.join(f'bytes | {kind}' for kind in given.kinds)} |")
    print(f"| --- |{' --- |' * 2 * len(given.kinds)}", flush=True)
    curves: dict[str, list[tuple[float, float]]] = {kind: [] for kind in given.kinds}
    for size in given.sizes:
        line = [f"bytes={size}"]
        for kind in given.kinds:
            pipeline = f"simplify,factorize{{bytes={size} latency=any methods=[svd] {KINDS[kind]} {given.also}}}"
            found = measured(given.model, pipeline, given.data, given.task, timed=False)
            assert found.score is not None
            curves[kind].append((found.bytes, found.score))
            line += [f"{found.bytes:.3f}", f"{found.score:.4f}"]
        print(f"| {' | '.join(line)} |", flush=True)
    if given.plot:
        draw(given.plot, given.model.stem, original, curves)


if __name__ == "__main__":
    main()
