"""`onnxpress COMMAND ...`: the entry point, and what becomes of every error.

Exit codes: 0 done; 1 a limit or a comparison failed, or a pass that was to change something did not; 2 the user's
mistake; 3 a pass or onnxpress failed; 130 interrupted; 141 the reader of stdout went away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from .. import __version__
from ..errors import OnnxpressError, UserError
from .group import CommandGroup
from .options import Settings

_INTERNAL = 3
_INTERRUPTED = 130
_BROKEN_PIPE = 141
"""What a shell reports of a program that SIGPIPE ends."""

_EPILOG = """Start with `onnxpress demo`. Exit codes: 0 done, 1 a limit or comparison failed, 2 a mistake in what was
asked for, 3 a pass or onnxpress failed, 130 interrupted."""


@click.group(cls=CommandGroup, invoke_without_command=True, epilog=_EPILOG)
@click.version_option(__version__, message="onnxpress %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure. ONNXPRESS_DEBUG=1 does the same.")
@click.pass_context
def onnxpress(ctx: click.Context, debug: bool) -> None:
    """A compiler for model compression: ONNX in, a pipeline of passes, ONNX out, with its price."""
    ctx.ensure_object(Settings).debug |= debug
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line on `args` (default: the process's) and return its exit code."""
    settings = Settings(debug=os.environ.get("ONNXPRESS_DEBUG", "") not in ("", "0"), is_process=args is None)
    try:
        code = _run(list(sys.argv[1:] if args is None else args), settings)
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_stdout()
        code = _BROKEN_PIPE
    if settings.at_end is not None:
        settings.at_end(code)
    return code


def _run(args: list[str], settings: Settings) -> int:
    try:
        with onnxpress.make_context("onnxpress", args, obj=settings) as ctx:
            result = onnxpress.invoke(ctx)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, click.Abort) as stop:
        return _fail(" ".join(["interrupted", *map(str, stop.args)]), _INTERRUPTED)
    except click.UsageError as error:
        return _fail(_usage_words(error), UserError.exit_code)
    except BrokenPipeError:
        raise
    except OnnxpressError as error:
        if error.exit_code != _INTERNAL:
            return _fail(str(error), error.exit_code)
        return _fail_inside(error, str(error), settings)
    except MemoryError as error:
        return _fail_inside(error, "out of memory", settings)
    except Exception as error:
        return _fail_inside(error, f"a fault of onnxpress: {type(error).__name__}: {error}", settings)


def _fail(words: str, code: int) -> int:
    click.echo(f"onnxpress: error: {words}", err=True)
    return code


def _fail_inside(error: BaseException, words: str, settings: Settings) -> int:
    if settings.debug:
        import traceback

        traceback.print_exception(error)
        return _fail(words, _INTERNAL)
    return _fail(f"{words} (--debug shows the traceback)", _INTERNAL)


def _usage_words(error: click.UsageError) -> str:
    """click's message as one line in the tone of all others, with the way to the help."""
    words = " ".join(error.format_message().split()).removesuffix(".")
    where = f"; see {error.ctx.command_path} --help" if error.ctx is not None else ""
    return words[:1].lower() + words[1:] + where


def _forget_stdout() -> None:
    """Let what is still buffered go nowhere, or the interpreter complains of it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
