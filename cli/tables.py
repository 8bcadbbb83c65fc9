"""How tables look: aligned columns; on a terminal with colours and folded to its width, elsewhere plain and whole."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

Row = Sequence[str]
_UNLIMITED = 100_000
"""Columns of what is no terminal: nothing is folded, and `grep` finds every line whole."""


def show_table(
    header: Row, rows: Iterable[Row], *, title: str = "", text: Sequence[int] = (0,), stderr: bool = False
) -> None:
    """Print a table under an empty line; `text` are the columns to align left, all others hold numbers."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for index, name in enumerate(header):
        is_text = index in text
        table.add_column(
            name, justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text, vertical="top"
        )
    for row in rows:
        table.add_row(*row)
    console = make_console(stderr=stderr)
    with console.capture() as captured:
        if title:
            console.print(title, style="bold", soft_wrap=True)
        console.print(table)
    lines = (line.rstrip() for line in captured.get().splitlines())
    click.echo("\n" + "\n".join(lines), err=stderr, color=True)


def make_console(*, stderr: bool = False) -> Console:
    """A console that takes every text as it is, and uses colours only on a terminal."""
    from rich.console import Console

    is_terminal = is_tty(stderr=stderr)
    return Console(
        stderr=stderr,
        force_terminal=is_terminal,
        width=None if is_terminal else _UNLIMITED,
        markup=False,
        emoji=False,
        highlight=False,
    )


def is_tty(*, stderr: bool = False) -> bool:
    """Whether a person sees the stream."""
    return (sys.stderr if stderr else sys.stdout).isatty()
