"""The commands, each in a file of its own that is imported when the command is named."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

import click

_MODULES: Mapping[str, str] = MappingProxyType(
    {
        "run": ".run",
        "passes": ".passes",
        "print": ".print",
        "compare": ".compare",
        "debug": ".debug",
        "bisect": ".bisect",
        "reduce": ".reduce",
        "reproduce": ".reproduce",
        "explain": ".explain",
        "replay": ".replay",
        "stats": ".stats",
        "demo": ".demo.command",
    }
)
"""Where each command lies, in the order of the help; the module's `command` is the command."""


class CommandGroup(click.Group):
    """A click group that finds its commands by module, and says which one may have been meant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called so, or None."""
        if cmd_name not in _MODULES:
            return None
        command = import_module(_MODULES[cmd_name], __package__).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; an unknown command is one line with the nearest name and all of them."""
        name = args[0]
        if name not in _MODULES and not name.startswith("-"):
            from ..errors import did_you_mean
            from ..passes.manager.mistakes import quoted

            hint = did_you_mean(name, _MODULES)
            raise click.UsageError(f"no command {quoted(name)}{hint} (commands: {', '.join(_MODULES)})", ctx)
        return super().resolve_command(ctx, args)
