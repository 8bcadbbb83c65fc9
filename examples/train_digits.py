"""Train the digits network of `onnxpress demo` and write its model and data.

    pip install torch==2.13.0 scikit-learn onnx onnxruntime
    python examples/train_digits.py [--out cli/demo]

About half a minute on one CPU core. Everything follows from one seed and one thread: on the same machine with the
same versions, a second run writes the same bytes.

The 1797 images are split once at random: 1024 to train on, 128 to calibrate with and 645 to test on, no image in two
parts. Nothing is chosen by looking at the test images: the recipe is fixed and the last epoch is what ships. The same
people wrote digits in all parts, so the accuracy says nothing about new writers.

Written: `digits.onnx` (input `image`, float32 [batch, 1, 8, 8], pixels 0 to 16; output `logits`, float32 [batch, 10]),
`calib.npz` (`image`, float32) and `test.npz` (`image` and `label`, uint8).
"""

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

try:
    import numpy as np
    import onnx
    import onnxruntime
    import torch
    from numpy.typing import NDArray
    from sklearn.datasets import load_digits
    from torch import Tensor, nn
except ImportError as missing:
    sys.exit(f"train_digits: {missing.name} is missing; pip install torch==2.13.0 scikit-learn onnx onnxruntime")

SEED = 8
TRAIN, CALIBRATION = 1024, 128
EPOCHS, BATCH, PEAK_RATE = 40, 64, 1e-2
OPSET = 17
DEMO = Path(__file__).resolve().parent.parent / "cli" / "demo"


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside an identity, or beside a 1x1 convolution where the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            projection = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class DigitNet(nn.Module):
    """A small residual network that takes raw pixels: the normalisation is part of the model."""

    mean: Tensor
    variance: Tensor

    def __init__(self, mean: float, variance: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([mean]))
        self.register_buffer("variance", torch.tensor([variance]))
        self.stem = nn.Conv2d(1, 32, 3, padding=1)
        self.bn = nn.BatchNorm2d(32)
        self.block1 = ResidualBlock(32, 32)
        self.block2 = ResidualBlock(32, 64, stride=2)
        self.hidden = nn.Linear(64, 64, bias=False)
        self.head = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        std = torch.sqrt(self.variance + 1e-5).view(1, -1, 1, 1)
        x = (image - self.mean.view(1, -1, 1, 1)) / std
        x = torch.relu(self.bn(self.stem(x)))
        x = self.block2(self.block1(x))
        x = nn.functional.adaptive_avg_pool2d(x, 1)
        x = x.view(x.size(0), -1)
        logits: Tensor = self.head(torch.relu(self.hidden(x)))
        return logits


def split() -> tuple[tuple[NDArray[np.uint8], NDArray[np.uint8]], ...]:
    """Images [n, 1, 8, 8] and labels [n] of the training, calibration and test parts."""
    digits = load_digits()
    images = digits.images.astype(np.uint8)[:, None]
    labels = digits.target.astype(np.uint8)
    order = np.random.default_rng(SEED).permutation(len(images))
    parts = np.split(order, [TRAIN, TRAIN + CALIBRATION])
    return tuple((images[part], labels[part]) for part in parts)


def train(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> DigitNet:
    """The trained network in evaluation mode."""
    torch.manual_seed(SEED)
    x, y = torch.from_numpy(images).float(), torch.from_numpy(labels).long()
    net = DigitNet(float(x.mean()), float(x.var()))
    steps = EPOCHS * (len(x) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(BATCH):
            loss = nn.functional.cross_entropy(net(x[batch]), y[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1:2d}/{EPOCHS}  last loss {loss.item():.4f}", file=sys.stderr)
    return net.eval()


def export(net: DigitNet) -> onnx.ModelProto:
    """The network as the TorchScript exporter writes it with its own optimizations off.

    Nothing is folded or fused on the way out, so that the model has the Constant nodes, constant regions,
    transposed weights and batch normalisations that models found in the field have.
    """
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        file = Path(folder) / "digits.onnx"
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch|__main__")
        torch.onnx.export(
            net,
            (torch.zeros(1, 1, 8, 8),),
            file,
            dynamo=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=OPSET,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )
        model = onnx.load(file)
    model.doc_string = "Residual network for 8x8 images of handwritten digits, pixels 0 to 16."
    onnx.checker.check_model(model, full_check=True)
    return model


def correct(logits: NDArray[np.float32], labels: NDArray[np.uint8]) -> int:
    return int((logits.argmax(axis=1) == labels).sum())


def check(model: onnx.ModelProto, net: DigitNet, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """Print the test accuracy; stop if the exported model is not the function that was trained."""
    pixels = images.astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(pixels)).numpy()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": pixels})
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)
    for name, found in (("torch", expected), ("onnxruntime", logits)):
        right = correct(found, labels)
        print(f"{name}: {right} of {len(labels)} test images right ({right / len(labels):.4f})")
    if abs(correct(expected, labels) - correct(logits, labels)) > 1:
        sys.exit("train_digits: the exported model does not have the accuracy of the trained one")


def write(
    folder: Path,
    model: onnx.ModelProto,
    calibration: NDArray[np.uint8],
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
) -> None:
    """numpy gives every archive member the same fixed date, so equal arrays give equal files."""
    (folder / "digits.onnx").write_bytes(model.SerializeToString(deterministic=True))
    np.savez_compressed(folder / "calib.npz", image=calibration.astype(np.float32))
    np.savez_compressed(folder / "test.npz", image=images, label=labels)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the digits network of the demo.")
    parser.add_argument("--out", type=Path, default=DEMO, help="folder to write to (default: %(default)s)")
    out: Path = parser.parse_args().out
    if not out.is_dir():
        parser.error(f"--out: {out} is not a folder")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    (train_images, train_labels), (calibration_images, _), (test_images, test_labels) = split()
    net = train(train_images, train_labels)
    model = export(net)
    check(model, net, test_images, test_labels)
    write(out, model, calibration_images, test_images, test_labels)


if __name__ == "__main__":
    main()
