"""The pages that are made at every build, so that none can be out of date: passes, commands, and specs/ as it is.

`pages()` maps the place of a page in the site to its Markdown. Sources link to each other as files of the repository,
which also works where the repository is browsed; `relinked` turns that into links between pages.
"""

from __future__ import annotations

import contextlib
import html
import inspect
import io
import json
import posixpath
import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

import onnxpress
from onnxpress.cli.main import main
from onnxpress.cli.main import onnxpress as command_line

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()([^()\s#]+\.md)(?=[)#])")
CODE_WITH_BAR = re.compile(r"`([^`\n]*\\\|[^`\n]*)`")
"""Code in a table that holds an escaped bar, whose backslash MkDocs would show."""
INCLUDE = re.compile(r"^<!-- (\S+\.md): (.+) -->$", re.MULTILINE)
"""`<!-- README.md: Passes -->`, on a line of its own, stands for what is below that heading of that file."""


class DocsError(Exception):
    """Something that a page is made of is missing or out of date."""


def pages() -> dict[str, str]:
    """All generated pages, by their place in the site."""
    return {"commands.md": commands_page(), **pass_pages(), **spec_pages()}


def place_of(source: str) -> str | None:
    """Where a Markdown file of the repository stands in the site; None if it is no part of it."""
    for folder, target in (("specs/passes/", "passes/"), ("specs/", "specs/"), ("docs/", "")):
        if source.startswith(folder):
            return target + source.removeprefix(folder)
    return None


def relinked(markdown: str, source: str, place: str) -> str:
    """`markdown`, from the file `source` of the repository, for the page `place`: its links lead to pages."""

    def page(match: re.Match[str]) -> str:
        found = place_of(posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1])))
        if found is None:
            raise DocsError(f"{source} links to {match[1]}, which is no page of the documentation")
        return posixpath.relpath(found, posixpath.dirname(place) or ".")

    return CODE_WITH_BAR.sub(lambda match: code(match[1].replace("\\|", "|")), LINK.sub(page, markdown))


def with_includes(markdown: str, place: str) -> str:
    """`markdown` with sections of other files in the place of comments that name them."""

    def section(match: re.Match[str]) -> str:
        text = (ROOT / match[1]).read_text(encoding="utf-8")
        parts = re.split(rf"^## {re.escape(match[2])}\n", text, maxsplit=1, flags=re.MULTILINE)
        if len(parts) < 2:
            raise DocsError(f"{place} includes the section {match[2]!r} of {match[1]}, which has none")
        return relinked(re.split(r"^## ", parts[1], maxsplit=1, flags=re.MULTILINE)[0].strip(), match[1], place)

    return INCLUDE.sub(section, markdown)


# ---- specs/


def spec_pages() -> dict[str, str]:
    """Every page of specs/ but those of passes."""
    sources = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "specs").glob("*.md"))
    return {source: relinked((ROOT / source).read_text(encoding="utf-8"), source, source) for source in sources}


# ---- passes


def built_in_passes() -> list[dict[str, Any]]:
    """What `onnxpress passes --json` says of the passes that onnxpress itself brings."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = main(["passes", "--json"])
    if code:
        raise DocsError("onnxpress passes --json failed")
    listed = json.loads(printed.getvalue())  # named pipelines too, which have a text of their own
    found = [one for one in listed if "pipeline" not in one and one["owner"].startswith("onnxpress ")]
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    missing = set(declared["onnxpress.passes"]) ^ {one["name"] for one in found}
    if missing:
        raise DocsError(f"install this checkout again: passes here and in the package differ in {sorted(missing)}")
    return found


def pass_pages() -> dict[str, str]:
    """The table of passes, and a page for each: what the class says of itself, then its specification."""
    found = built_in_passes()
    rows = [(f"[`{one['name']}`]({one['name']}.md)", effect(one, "as inside"), one["summary"]) for one in found]
    index = f"""# Passes

{table(("pass", "effect", "does"), rows)}

An *effect* is a promise, which [numerical contracts](../specs/numerics.md) define. A combinator promises what the
passes inside it promise. `onnxpress passes` prints this table with the passes of all installed packages, `onnxpress
passes NAME` tells the rest of one.
"""
    return {"passes/index.md": index, **{f"passes/{one['name']}.md": pass_page(one) for one in found}}


def pass_page(one: dict[str, Any]) -> str:
    """The page of a pass; DocsError if it has no specification."""
    source = f"specs/passes/{one['name']}.md"
    if not (ROOT / source).is_file():
        raise DocsError(f"the pass {one['name']} has no {source}")
    title, _, spec = (ROOT / source).read_text(encoding="utf-8").partition("\n")
    if title != f"# {one['name']}":
        raise DocsError(f"the first line of {source} is not '# {one['name']}'")
    inside = one["takes_pipeline"]
    facts = [
        ("effect", effect(one, "that of the weakest pass inside") + ("" if inside else f": {one['contract']}")),
        ("inputs and outputs", "kept" if one["keeps_interface"] else "may change"),
        ("run twice", "changes nothing more" if one["idempotent"] else "may change more"),
        ("takes passes in parentheses", "yes" if inside else "no"),
        ("class", f"`{one['owner'].partition('(')[2].rstrip(')')}`"),
    ]
    told = "\n".join(f"- {what}: {fact}" for what, fact in facts)
    options = [(code(o["name"]), code(o["default"]), o["type"], meaning(o)) for o in one["options"]]
    accepted = table(("option", "default", "accepts", "meaning"), options) if options else "It has no options."
    return f"""# {one["name"]}

{one["summary"]}

{one["description"]}

{told}

{accepted}

## Specification

{relinked(spec.strip(), source, f"passes/{one['name']}.md")}
"""


def effect(one: dict[str, Any], of_combinator: str) -> str:
    """The effect that a pass states; a combinator adds nothing to what the passes inside it promise."""
    adds_nothing = one["takes_pipeline"] and one["effect"] == "EXACT"
    return of_combinator if adds_nothing else str(one["effect"])


def meaning(option: dict[str, Any]) -> str:
    """The help of an option with its unit."""
    return f"{option['help']} ({option['unit']})" if option["unit"] else str(option["help"])


# ---- commands


def commands_page() -> str:
    """The whole command line, as its own help tells it."""
    ctx = click.Context(command_line, info_name="onnxpress")
    parts = [
        f"# Commands\n\n{prose(command_line.help)}\n\n{prose(command_line.epilog)}",
        *(command_part(command, ctx) for command in commands_of(command_line, ctx)),
    ]
    return "\n\n".join(parts) + "\n"


def commands_of(group: click.Group, ctx: click.Context) -> Iterable[click.Command]:
    """The commands of a group in the order of its help, without the hidden ones."""
    found = (group.get_command(ctx, name) for name in group.list_commands(ctx))
    return [command for command in found if command is not None and not command.hidden]


def command_part(command: click.Command, parent: click.Context, level: int = 2) -> str:
    """The section of one command, and of those below it."""
    ctx = click.Context(command, info_name=command.name, parent=parent)
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    parts = [f"{'#' * level} {command.name}", f"```text\n{usage}\n```", prose(command.help)]
    records = [record for parameter in command.get_params(ctx) if (record := parameter.get_help_record(ctx))]
    parts.append(table(("option", "does"), [(code(name), text) for name, text in records if text]))
    if isinstance(command, click.Group):
        parts += [command_part(inner, ctx, level + 1) for inner in commands_of(command, ctx)]
    return "\n\n".join(parts)


def prose(text: str | None) -> str:
    """Help text as Markdown: paragraphs, without click's marks."""
    return inspect.cleandoc((text or "").replace("\b\n", "").replace("\f", ""))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *([cell(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(text: str) -> str:
    """One line that parts no cells."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """Code that may stand in a table, bars and all."""
    return f"<code>{html.escape(text, quote=False).replace('|', '&#124;')}</code>"


def check_installed() -> None:
    """DocsError unless the package that is imported is the one of this checkout."""
    installed = Path(str(onnxpress.__file__)).parent
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    for folder in (Path(*package.split(".")[1:]) for package in packages):
        for path in (ROOT / folder).glob("*.py"):
            other = installed / folder / path.name
            if not other.is_file() or other.read_bytes() != path.read_bytes():
                raise DocsError(f"install this checkout again: {path.relative_to(ROOT)} is not what is installed")
