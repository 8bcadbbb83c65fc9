"""Help, version, unknown words, and how little the start costs."""

import os
import subprocess
import sys

import pytest

import onnxpress
from onnxpress.passes.manager import registry

COMMANDS = ["run", "passes", "print", "compare", "stats", "demo"]
HEAVY = ["numpy", "onnx", "onnxruntime", "rich", "networkx"]


def test_version(cli):
    assert cli("--version") == (0, f"onnxpress {onnxpress.__version__}\n", "")


def test_help_names_every_command(cli):
    code, out, err = cli("--help")
    assert (code, err) == (0, "")
    assert all(f"  {command} " in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(cli, command):
    code, out, err = cli(command, "--help")
    assert (code, err) == (0, "")
    assert out.startswith(f"Usage: onnxpress {command} ")


def test_no_command_shows_the_help_as_a_mistake(cli):
    code, out, err = cli()
    assert (code, out) == (2, "")
    assert "Commands:" in err


@pytest.mark.parametrize("args", [["--version"], ["--help"], ["run", "--help"], ["compare", "--help"], ["runn"]])
def test_start_imports_nothing_heavy(args):
    code = (
        f"import sys; from onnxpress.cli.main import main; main({args!r}); "
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["pases"], "no command 'pases'; did you mean 'passes'?"),
        (["zzz"], "no command 'zzz' (commands: run, passes, print, compare, debug, "),
        (["--verson"], "'--verson'"),
        (["run"], "missing argument 'IN'"),
        (["run", "m.onnx"], "missing option '-p' / '--pipeline'"),
        (["run", "m.onnx", "-p", "fold", "--sead", "1"], "'--seed'"),
        (["run", "m.onnx", "-p", "fold", "--seed", "-1"], "--seed"),
        (["run", "m.onnx", "-p", "fold", "--remarks", "some"], "'missed', 'failed'"),
        (["compare", "a.onnx"], "missing argument 'B'"),
        (["passes", "fold", "dce"], "unexpected extra argument"),
    ],
)
def test_a_mistake_in_the_words_is_one_line(cli, args, words):
    code, out, err = cli(*args)
    assert (code, out) == (2, "")
    assert err.startswith("onnxpress: error: ")
    assert words in err
    assert err.count("\n") == 1


def test_a_fault_inside_is_three_and_short(cli, monkeypatch):
    monkeypatch.setattr(registry, "default_registry", lambda: 1 / 0)
    code, out, err = cli("passes")
    assert (code, out) == (3, "")
    assert err == (
        "onnxpress: error: a fault of onnxpress: ZeroDivisionError: division by zero (--debug shows the traceback)\n"
    )


@pytest.mark.parametrize("how", ["before", "behind", "environment"])
def test_debug_shows_the_traceback(cli, monkeypatch, how):
    monkeypatch.setattr(registry, "default_registry", lambda: 1 / 0)
    if how == "environment":
        monkeypatch.setenv("ONNXPRESS_DEBUG", "1")
    args = {"before": ["--debug", "passes"], "behind": ["passes", "--debug"], "environment": ["passes"]}[how]
    code, _, err = cli(*args)
    assert code == 3
    assert "Traceback (most recent call last)" in err
    assert err.endswith("onnxpress: error: a fault of onnxpress: ZeroDivisionError: division by zero\n")


def test_an_interrupt_is_130_without_a_traceback(cli, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "default_registry", interrupted)
    assert cli("passes") == (130, "", "onnxpress: error: interrupted\n")


def test_a_reader_that_went_away_is_nothing_to_talk_of():
    read, write = os.pipe()
    os.close(read)
    code = "from onnxpress.cli.main import main; raise SystemExit(main(['passes', '--json']))"
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def cpu_seconds(*args):
    """The least CPU time that a call of the interpreter took."""

    def once():
        before = os.times()
        subprocess.run([sys.executable, *args], stdout=subprocess.DEVNULL, check=True)
        after = os.times()
        return sum(after[2:4]) - sum(before[2:4])

    return min(once() for _ in range(5))


def test_version_costs_at_most_a_tenth_of_a_second_of_cpu():
    code = "from onnxpress.cli.main import main; raise SystemExit(main(['--version']))"
    assert cpu_seconds("-c", code) - cpu_seconds("-c", "pass") <= 0.1
