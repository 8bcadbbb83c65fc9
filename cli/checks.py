"""What can be found wrong before anything is read or run: paths that cannot be written, files that are not there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..atomic import is_read_only, refusal
from ..errors import UserError


def check_exists(source: Path) -> None:
    """UserError if `source` is no file."""
    with _reaching(str(source)):
        if source.is_dir():
            raise UserError(f"{source}: is a folder, not an ONNX file")
        if not source.exists():
            raise UserError(f"{source}: no such file")


def check_data_files(data: Iterable[str]) -> None:
    """UserError if one of the .npz files that `--data` names cannot be read, headers included."""
    for spec in data:
        if Path(spec).is_file():
            from ..backends.npz import NpzFile

            NpzFile.scan(Path(spec))


def check_target(target: Path, option: str) -> None:
    """UserError if no file can be written at `target`, which `option` names."""
    folder = target.parent
    with _reaching(f"{option} {target}"):
        if target.is_dir():
            raise UserError(f"{option} {target}: is a folder; name a file in it")
        if target.exists() and not target.is_file():
            raise UserError(f"{option} {target}: is no regular file, and would be replaced by one")
        if target.exists() and is_read_only(target.stat()):
            raise UserError(f"{option} {target}: is read-only; remove it first, or name another file")
        if not folder.is_dir():
            raise UserError(f"{option} {target}: the folder {folder} does not exist")
    if why := refusal(folder):
        raise UserError(f"{option} {target}: no file can be written in the folder {folder}: {why}")


@contextmanager
def _reaching(words: str) -> Iterator[None]:
    """UserError, begun with `words`, where the system does not even look for a path: its name is too long."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{words}: {error.strerror or error}") from None


def output_of(source: Path, output: Path | None, *, in_place: bool) -> Path | None:
    """Where the result goes, None for a dry run; UserError if it cannot be written there, or may not."""
    if output is None:
        output = source if in_place else None
    if output is None:
        return None
    check_target(output, "-o")
    same = is_same(source, output)
    if same and not in_place:
        raise UserError(f"-o {output}: is the input itself; --in-place replaces it")
    if in_place and not same:
        raise UserError(f"--in-place replaces {source}: leave out -o {output}")
    return output


def check_apart(target: Path, option: str, others: Iterable[Path]) -> None:
    """UserError if `target` would overwrite one of the other files of this run."""
    for other in others:
        if is_same(target, other):
            raise UserError(f"{option} {target}: would overwrite {other}, which this run uses")


def is_same(one: Path, other: Path) -> bool:
    """Whether both paths lead to one file, links followed, whether it exists or not."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()
