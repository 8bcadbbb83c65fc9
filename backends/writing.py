"""Writing models: the file, and a data file beside it where the weights are too large for one message."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..atomic import is_read_only, names_folder, refusal, write_file
from ..errors import UserError
from ..ir import Model
from .data_files import Layout, plan, remove_unused, take_back, write_data, written_for
from .messages import externals_of
from .reading import PROTOBUF_LIMIT
from .skeleton import Pieces, Skeleton

EXTERNAL_ABOVE = PROTOBUF_LIMIT - 2**24
"""Bytes of a model file above which its weights move to a data file, unless stated otherwise."""


class Saved(NamedTuple):
    """What was written: bytes of the .onnx file, bytes of its data files, and all files, the .onnx file first."""

    bytes_onnx: int
    bytes_data: int
    files: tuple[Path, ...]


def save_model(
    model: Model, path: str | os.PathLike[str], *, external_above: int = EXTERNAL_ABOVE, in_place: bool = False
) -> Saved:
    """Write a model so that a failure at any moment leaves what was there before, and nothing else.

    A model file of more than `external_above` bytes gives its weights of more than 1 kB to a data file beside it,
    `STEM.DIGEST.data`; what came in external data stays external. Weights are computed and written one at a time.
    Data files of the .onnx file that was at `path`, if onnxpress wrote them and no .onnx in the folder refers to
    them any more, are removed. `in_place` allows to replace the file that the model was loaded from.
    Raises UserError if the place cannot be written to.
    """
    target = Path(path)
    if not 0 <= external_above <= EXTERNAL_ABOVE:
        raise UserError(f"external_above is {external_above}; it must be between 0 and {EXTERNAL_ABOVE} bytes")
    check_writable(path, model, in_place=in_place)
    old = written_for(target)
    skeleton = Skeleton(model)
    layout = plan(skeleton, model, external_above, _replaces_source(target, model))
    made: list[Path] = []
    try:
        saved = _write(skeleton, layout, target, made)
    except BaseException:
        take_back(made, target)
        raise
    remove_unused(old - set(saved.files), target)
    return saved


def check_writable(path: str | os.PathLike[str], model: Model, *, in_place: bool = False) -> None:
    """Raise UserError if a model cannot be written to `path`: the folder is missing or closed, or the file is
    read-only or one that the model is still read from (its own .onnx file only unless `in_place`)."""
    target = Path(path)
    if names_folder(path):
        raise UserError(f"{os.fspath(path)}: names a folder; give the name of the file to write")
    status = _status(target)
    if status is not None and stat.S_ISDIR(status.st_mode):
        raise UserError(f"{target}: is a folder; give the name of the file to write")
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise UserError(f"{target}: is no regular file, which would be replaced")
    if status is not None and is_read_only(status):
        raise UserError(f"{target}: is read-only, and would be replaced")
    folder = _status(target.parent)
    if folder is None or not stat.S_ISDIR(folder.st_mode):
        raise UserError(f"{target}: there is no folder {target.parent}; create it first")
    if why := refusal(target.parent):
        raise UserError(f"{target}: the folder {target.parent} is not writable: {why}")
    if status is None or model.path is None:
        return
    for file in _data_sources(model):
        if _is_same(file, status):
            raise UserError(f"{target}: holds external data of {model.path}, which is still read; give another name")
    if _is_same(model.path, status) and not in_place:
        raise UserError(f"{target}: is the model that was read; allow that with --in-place, or give another name")


def _write(skeleton: Skeleton, layout: Layout, target: Path, made: list[Path]) -> Saved:
    files = write_data(layout, target.parent, target.stem, made)
    pieces = skeleton.pieces() if layout.message is None else layout.message
    _check_size(pieces, target)
    write_file(pieces.blocks(), target)
    return Saved(pieces.nbytes, sum(file.stat().st_size for file in files), (target, *files))


def _check_size(pieces: Pieces, target: Path) -> None:
    if pieces.nbytes > PROTOBUF_LIMIT:
        raise UserError(
            f"{target}: {pieces.nbytes} bytes are left with all weights in external data, more than the 2 GiB that an "
            "ONNX file can hold"
        )


def _replaces_source(target: Path, model: Model) -> bool:
    """Whether references of the source hold for the file to be written: it replaces the source in its folder."""
    status, folder = _status(target), _status(target.parent)
    if model.path is None or status is None or folder is None:
        return False
    return _is_same(model.path, status) and _is_same(model.path.parent, folder)


def _data_sources(model: Model) -> Iterator[Path]:
    if model.path is None:
        return
    yield from (model.path.parent / location for location in externals_of(model))


def _is_same(path: Path, status: os.stat_result) -> bool:
    other = _status(path)
    return other is not None and os.path.samestat(other, status)


def _status(path: Path) -> os.stat_result | None:
    """What the system says of a path; None if nothing is there."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be reached: {getattr(error, 'strerror', None) or error}") from error
