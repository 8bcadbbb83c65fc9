"""What MkDocs calls while it builds the site: adds the generated pages and turns links to files into links to pages."""

from __future__ import annotations

from typing import Any

import generate
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make the pages, and name them in the navigation where an entry ends in a slash."""
    try:
        generate.check_installed()
        config.extra["generated"] = generate.pages()
    except generate.DocsError as error:
        raise PluginError(str(error)) from error
    config.nav = [_expanded(entry, config.extra["generated"]) for entry in config.nav or []]
    return config


def _expanded(entry: Any, places: dict[str, str]) -> Any:
    if not isinstance(entry, dict):
        return entry
    return {
        title: [place for place in places if place.startswith(target)]
        if isinstance(target, str) and target.endswith("/")
        else target
        for title, target in entry.items()
    }


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for place, content in config.extra["generated"].items():
        files.append(File.generated(config, place, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Relink the pages that are written by hand."""
    place = page.file.src_uri
    if place in config.extra["generated"]:
        return markdown
    try:
        return generate.with_includes(generate.relinked(markdown, f"docs/{place}", place), place)
    except generate.DocsError as error:
        raise PluginError(str(error)) from error
