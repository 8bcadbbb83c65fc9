"""Files that appear whole or not at all: written under another name beside their place, synced, then renamed."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from .errors import UserError


def is_read_only(status: os.stat_result) -> bool:
    """Whether nobody may write to a file: a rename would replace it all the same."""
    return not status.st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)


def names_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path ends as those of folders do (`new/`, `new/.`), which `Path` would forget."""
    text = os.fspath(path)
    return bool(text) and os.path.basename(text) in ("", os.curdir)


def refusal(folder: Path) -> str:
    """Why no file can be made in a folder, in the words of the system; empty if one can. It is tried: permissions do
    not tell of read-only and virtual file systems."""
    temporary = _temporary(folder)
    try:
        temporary.open("xb").close()
        temporary.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def write_file(blocks: Iterable[memoryview], path: Path) -> None:
    """Write a file, replacing the one of that name, whose permissions it takes over."""
    _write(path.parent, blocks, lambda: path)


def write_hashed(blocks: Iterable[memoryview], folder: Path, name: Callable[[str], str], made: list[Path]) -> Path:
    """Write a file called `name(SHA-256 of its content)`; one that is there already with this content is left alone.

    A file that comes into being is added to `made` beforehand. Raises UserError if the name is taken by other content.
    """

    import hashlib  # loads OpenSSL, which only data files need

    digest = hashlib.sha256()

    def read() -> Iterable[memoryview]:
        for block in blocks:
            digest.update(block)
            yield block

    def place() -> Path | None:
        path = folder / name(digest.hexdigest())
        if not path.exists():
            made.append(path)
            return path
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").digest() != digest.digest():
                raise UserError(f"{path}: its name is the digest of other content; remove this file")
        return None

    _write(folder, read(), place)
    return folder / name(digest.hexdigest())


def _write(folder: Path, blocks: Iterable[memoryview], place: Callable[[], Path | None]) -> None:
    """Write blocks to a new file and move it to the place that is then asked for, or drop it if that is None."""
    temporary = _temporary(folder)
    try:
        with temporary.open("xb") as file:
            for block in blocks:
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        path = place()
        if path is not None:
            _keep_permissions(path, temporary)
            temporary.replace(path)
            _sync_folder(folder)
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(folder: Path) -> Path:
    return folder / f".onnxpress-{os.urandom(8).hex()}.tmp"


def _keep_permissions(old: Path, new: Path) -> None:
    if old.exists():
        new.chmod(stat.S_IMODE(old.stat().st_mode))


def _sync_folder(folder: Path) -> None:
    """Make a rename last; not every system and file system lets a folder be synced."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
