"""Versions of a run that is done again, beside those that are installed here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress


def versions_here(names: Iterable[str]) -> dict[str, str]:
    """What is installed here of these distributions, and which Python runs."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from .. import __version__
    from ..backends.ort import versions

    here = {"onnxpress": __version__, **versions(), "python": platform.python_version()}
    for name in names:
        with suppress(PackageNotFoundError):
            here.setdefault(name, version(name))
    return here


def other_versions(then: Mapping[str, str]) -> list[str]:
    """One line for each version that is another here."""
    here = versions_here(then)
    return [
        f"{name} was {version} and is {here.get(name, 'not installed')} here"
        for name, version in sorted(then.items())
        if here.get(name) != version
    ]


def missing(then: Mapping[str, str]) -> list[str]:
    """The distributions that are not installed here, with the versions that they had."""
    here = versions_here(then)
    return [f"{name} {version}" for name, version in sorted(then.items()) if name not in here]
