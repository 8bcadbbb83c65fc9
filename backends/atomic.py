"""Files that appear whole or not at all: written under another name beside their place, synced, then renamed."""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from ..errors import UserError


def write_file(blocks: Iterable[memoryview], path: Path) -> None:
    """Write a file, replacing the one of that name, whose permissions it takes over."""
    _write(path.parent, blocks, lambda digest: path)


def write_hashed(blocks: Iterable[memoryview], folder: Path, name: Callable[[str], str], made: list[Path]) -> Path:
    """Write a file called `name(SHA-256 of its content)`; one that is there already with this content is left alone.

    A file that comes into being is added to `made` beforehand. Raises UserError if the name is taken by other content.
    """

    def place(digest: str) -> Path | None:
        path = folder / name(digest)
        if not path.exists():
            made.append(path)
            return path
        if _digest(path) != digest:
            raise UserError(f"{path}: its name is the digest of other content; remove this file")
        return None

    return folder / name(_write(folder, blocks, place))


def _write(folder: Path, blocks: Iterable[memoryview], place: Callable[[str], Path | None]) -> str:
    """Write blocks to a new file and move it to `place(digest)`, or drop it if that is None; returns the digest."""
    temporary = folder / f".onnxpress-{secrets.token_hex(8)}.tmp"
    digest = hashlib.sha256()
    try:
        with temporary.open("xb") as file:
            for block in blocks:
                digest.update(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        path = place(digest.hexdigest())
        if path is not None:
            _keep_permissions(path, temporary)
            temporary.replace(path)
            _sync_folder(folder)
        return digest.hexdigest()
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
