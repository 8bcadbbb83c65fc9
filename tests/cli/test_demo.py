import onnx
import pytest


@pytest.fixture(scope="module")
def shown():
    """What the demo prints, with the file that it keeps; run once, as it takes seconds."""
    import subprocess
    import sys
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "digits.onnx"
        code = "from onnxpress.cli.main import main; raise SystemExit(main())"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, "demo", "-o", str(out)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        onnx.checker.check_model(str(out), full_check=True)
        return done.stdout


def row(text: str, start: str) -> list[str]:
    return next(line for line in text.splitlines() if line.startswith(start))[len(start) :].split("  ")


def test_shows_the_price_of_every_pass(shown):
    for name in ("input", "fold", "dce", "quantize-insert", "deployed"):
        assert any(line.startswith(name) for line in shown.splitlines())


def test_shows_what_it_comes_to(shown):
    for name in ("size", "MACs", "latency", "accuracy on 645 test images"):
        cells = [cell.strip() for cell in row(shown, name) if cell.strip()]
        assert len(cells) >= 3, name


def test_the_network_gets_smaller_and_reads_as_well(shown):
    size = [cell.strip() for cell in row(shown, "size") if cell.strip()]
    assert float(size[2].removesuffix(" x")) < 0.35
    accuracy = [cell.strip() for cell in row(shown, "accuracy on 645 test images") if cell.strip()]
    before, after = (float(cell.removesuffix("%")) for cell in accuracy[:2])
    assert before > 95
    assert abs(after - before) < 1


def test_tells_the_next_step(shown):
    assert "onnxpress run model.onnx -p" in shown


def test_another_pipeline(cli):
    code, out, err = cli("demo", "-p", "dce")
    assert (code, err) == (0, "")
    assert "  dce\n" in out
