"""What several commands share: settings, the options that say which inputs to feed, and how they are read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from ..backends.interface import Pins

F = TypeVar("F", bound=Callable[..., Any])


class TargetPath(click.Path):
    """A path that a file is to be written to."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """UserError for the name of a folder, which nothing shows any more once it is a `Path`."""
        from ..atomic import names_folder
        from ..errors import UserError

        if names_folder(value):
            option = "" if param is None else f"{min(param.opts, key=len)} "
            raise UserError(f"{option}{value}: names a folder; name a file in it")
        return super().convert(value, param, ctx)


class Settings:
    """What holds for the whole call."""

    def __init__(
        self, debug: bool = False, is_process: bool = False, at_end: Callable[[int], None] | None = None
    ) -> None:
        self.debug = debug
        """Whether a failure shows its traceback."""
        self.is_process = is_process
        """Whether the call is all that the process is there for."""
        self.at_end = at_end
        """What to call with the exit code when the call came to its end, successful or not."""


def debug_option(command: F) -> F:
    """`--debug`, behind the name of a command too."""
    return click.option("--debug", is_flag=True, expose_value=False, callback=_keep_debug, hidden=True)(command)


def _keep_debug(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    ctx.ensure_object(Settings).debug |= value


def input_options(command: F) -> F:
    """`--data`, `--shape`, `--value` and `--seed`: which inputs a model is run on."""
    decorators = (
        click.option(
            "--data",
            multiple=True,
            metavar="D",
            help="Sample inputs: an .npz file (keys = input names, samples on the first axis), a folder of them, "
            "module:function, or random. May be repeated. Without it inputs are generated.",
        ),
        shape_option,
        click.option("--value", "values", multiple=True, metavar="NAME=V", help="Fix the value of an input: sr=16000."),
        click.option("--seed", type=click.IntRange(min=0), default=0, metavar="N", help="Seed of all chance (0)."),
    )
    for decorator in reversed(decorators):
        command = decorator(command)
    return command


def samples_option(default: int | None, shown: int) -> Callable[[F], F]:
    """`--samples N`: how many of the inputs are run; `shown` is what the help calls the default."""
    return click.option(
        "--samples", type=click.IntRange(min=1), default=default, metavar="N", help=f"Run N of the inputs ({shown})."
    )


def shape_option(command: F) -> F:
    """`--shape NAME=1x3x48x320`."""
    return click.option(
        "--shape", "shapes", multiple=True, metavar="NAME=AxBxC", help="Fix the shape of an input: images=1x3x640x640."
    )(command)


def pins_of(shapes: tuple[str, ...], values: tuple[str, ...] = ()) -> Pins:
    """The pinned inputs; UserError where one cannot be read."""
    from ..backends.interface import Pins

    return Pins.parse(shapes, values)


def size_of(text: str | None, option: str) -> int | None:
    """A number of bytes (`2GB`, `64MiB`, `1000`), None if not given; UserError where it cannot be read."""
    from ..errors import UserError
    from ..passes.manager.units import read_size

    try:
        return None if text is None else read_size(text)
    except ValueError as error:
        raise UserError(f"{option} {text}: {error}") from None
