"""Arrays in an .npz file: what each one is, from its header alone, and its rows one at a time.

numpy reads a member of an .npz whole; a calibration file may be larger than memory, so rows are cut from the
decompressed stream here. Nothing is ever unpickled.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..errors import UserError
from .interface import Array

_DAMAGE = (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)
_BLOCK = 1 << 20
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class Header:
    """An array of the file: its member's name, shape, dtype, and whether columns lie together."""

    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class NpzFile:
    """An .npz file whose headers were read; the data are read on demand."""

    path: Path
    headers: dict[str, Header]
    """By key: the name that the array was saved under."""

    @classmethod
    def scan(cls, path: Path) -> NpzFile:
        """Read the headers of all arrays; UserError if the file or an array cannot be read, or is pickled."""
        headers = {}
        with _reading(path), zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                with archive.open(info) as stream:
                    header = _header(stream, info.filename, f"{path}: {info.filename}")
                    if stream.tell() + header.nbytes != info.file_size:
                        raise ValueError(f"{info.filename} is shorter or longer than its shape says")
                headers[info.filename.removesuffix(".npy")] = header
        if not headers:
            raise UserError(f"{path}: no arrays in it")
        return cls(path, headers)

    @contextmanager
    def opened(self) -> Iterator[NpzData]:
        """The arrays' data, as long as the context lasts; damage found on the way is a UserError."""
        with _reading(self.path), zipfile.ZipFile(self.path) as archive:
            yield NpzData(archive, self.headers)


@dataclass(frozen=True)
class NpzData:
    """An open .npz file."""

    archive: zipfile.ZipFile
    headers: dict[str, Header]

    def read(self, key: str) -> Array:
        """The whole array."""
        header = self.headers[key]
        with self._stream(header) as stream:
            flat = _take(stream, header.dtype, math.prod(header.shape))
        return flat.reshape(header.shape, order="F" if header.fortran else "C")

    def rows(self, key: str, step: int = 1) -> Iterator[Array]:
        """Slices of `step` rows along the first axis; one at a time in memory, unless columns lie together."""
        header = self.headers[key]
        if header.fortran:
            array = self.read(key)
            yield from (array[i : i + step] for i in range(0, len(array), step))
            return
        shape = (step, *header.shape[1:])
        with self._stream(header) as stream:
            for _ in range(header.shape[0] // step):
                yield _take(stream, header.dtype, math.prod(shape)).reshape(shape)

    def _stream(self, header: Header) -> IO[bytes]:
        """The member's bytes, behind its header."""
        stream = self.archive.open(header.member)
        _header(stream, header.member, header.member)
        return stream


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"{path}: not a readable .npz file: {why.splitlines()[0]}") from error


def _header(stream: IO[bytes], member: str, where: str) -> Header:
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise UserError(f"{where}: structured arrays are not supported")
    shape, fortran, dtype = _HEADERS[version](stream)
    if dtype.hasobject:
        raise UserError(f"{where}: pickled objects are refused: save a plain array of numbers or strings")
    return Header(member, shape, dtype, fortran)


def _take(stream: IO[bytes], dtype: np.dtype[Any], count: int) -> Array:
    """The next `count` elements of the stream."""
    out = np.empty(count, dtype)
    if not out.nbytes:
        return out
    raw, done = out.view(np.uint8), 0
    while done < len(raw):
        part = stream.read(min(len(raw) - done, _BLOCK))
        if not part:
            raise EOFError(f"the data end after {done} of {len(raw)} bytes")
        raw[done : done + len(part)] = np.frombuffer(part, np.uint8)
        done += len(part)
    return out
