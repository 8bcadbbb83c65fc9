"""External data: which tensors lie in which file beside the model, and which files are left over.

A data file is named `STEM.DIGEST.data` after the model `STEM.onnx` and its own content, so it is never overwritten and
the model that refers to it stays whole until the rename of the new .onnx. A source file of which every tensor is still
there is taken over byte for byte, with its offsets; all else goes to one new file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from onnx import TensorProto

from ..atomic import write_hashed
from ..errors import UserError
from ..ir import ExternalTensor, Model, ProtoTensor, Tensor
from ..ir.proto.external import external_tensor
from .messages import Role, externals_in, externals_of, reference_of, walk_tensors
from .reading import parse_file
from .skeleton import DATA_FIELDS, Pieces, Skeleton, data_of

_BLOCK = 1 << 23
_PAGE = 4096
_LINE = 64
_LARGE = 1 << 20
"""From this size on a tensor begins on a page, so that it can be memory-mapped alone; else on a cache line."""
_DIGITS = 16
_MAY_LEAVE = (Role.INITIALIZER, Role.CONSTANT)


class Packed:
    """A tensor in the new data file, and the places in the message that refer to it."""

    def __init__(self, tensor: Tensor, offset: int) -> None:
        self.tensor = tensor
        self.offset = offset
        self.protos: list[TensorProto] = []


class Layout:
    """Where the data go that are not in the message."""

    def __init__(
        self,
        kept: list[Path] | None = None,
        copied: dict[Path, list[TensorProto]] | None = None,
        packed: list[Packed] | None = None,
        message: Pieces | None = None,
    ) -> None:
        self.kept = [] if kept is None else kept
        """Source files that stay as they are."""
        self.copied = {} if copied is None else copied
        """Source files to copy, and who refers to them."""
        self.packed = [] if packed is None else packed
        """Tensors for the new data file, by offset."""
        self.message = message
        """The message as it is, where no data leave it."""

    def blocks(self) -> Iterator[memoryview]:
        """The content of the new data file, one tensor at a time."""
        position = 0
        for item in self.packed:
            yield memoryview(bytes(item.offset - position))
            yield data_of(item.tensor)
            position = item.offset + item.tensor.nbytes


def plan(skeleton: Skeleton, model: Model, above: int, in_place: bool) -> Layout:
    """Decide for every weight, without touching the message.

    Weights stay in the message while that has at most `above` bytes. What came in external data stays external, and in
    a model that came with external data so do the weights that passes made.
    """
    before = externals_of(model)
    after = externals_in(skeleton.proto) if before or skeleton.externals else {}
    layout, packer = Layout(), _Packer()
    for location, protos in after.items():
        tensors = [_tensor_of(skeleton, model, proto) for proto in protos]
        path = tensors[0].path
        whole = path.is_file() and set(map(reference_of, before[location])) <= set(map(reference_of, protos))
        if whole and in_place:
            layout.kept.append(path)
        elif whole:
            layout.copied.setdefault(path, []).extend(protos)
        else:
            for tensor, proto in zip(tensors, protos, strict=True):
                packer.add(tensor, proto)
    message = skeleton.pieces()
    all_leave = message.nbytes > above
    for held in walk_tensors(skeleton.proto) if all_leave or before else ():
        weight = skeleton.weight_of(held.tensor) if held.role in _MAY_LEAVE else None
        if weight is not None and (all_leave or (before and not isinstance(weight, ProtoTensor))):
            packer.add(weight, held.tensor)
    layout.packed = packer.items
    layout.message = None if after or packer.items else message
    return layout


def write_data(layout: Layout, folder: Path, stem: str, made: list[Path]) -> list[Path]:
    """Write the data files of a layout and let the message refer to them; returns all files that it refers to.

    A file that comes into being is added to `made` beforehand. Raises UserError if it cannot be written.
    """

    def name(digest: str) -> str:
        return f"{stem}.{digest[:_DIGITS]}.data"

    files = [*layout.kept]
    for path, protos in layout.copied.items():
        files.append(write_hashed(_read_blocks(path), folder, name, made))
        for entry in (entry for proto in protos for entry in proto.external_data if entry.key == "location"):
            entry.value = files[-1].name
    if layout.packed:
        files.append(write_hashed(layout.blocks(), folder, name, made))
        for item in layout.packed:
            for proto in item.protos:
                _refer(proto, files[-1].name, item.offset, item.tensor.nbytes)
    return list(dict.fromkeys(files))


def written_for(path: Path) -> set[Path]:
    """The data files that onnxpress wrote for the .onnx file that is at `path` now."""
    pattern = re.compile(rf"{re.escape(path.stem)}\.[0-9a-f]{{{_DIGITS}}}\.data")
    found = {item for item in path.parent.iterdir() if pattern.fullmatch(item.name)}
    return found & (_files_of(path) or set()) if found else set()


def take_back(made: Iterable[Path], path: Path) -> None:
    """Remove files that were made for the .onnx file at `path`, unless it refers to them already."""
    for file in set(made) - (_files_of(path) or set()):
        file.unlink(missing_ok=True)


def remove_unused(files: set[Path], path: Path) -> None:
    """Remove those files that no .onnx beside `path` refers to; none if one of these cannot be read."""
    if not files:
        return
    referred = [_files_of(model) for model in path.parent.glob("*.onnx")]
    if None in referred:
        return
    for file in files.difference(*(names for names in referred if names is not None)):
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{path} is written, but {file} of the old one stays: {error.strerror}") from error


def _files_of(path: Path) -> set[Path] | None:
    """The files that an .onnx file refers to; None if it cannot be read."""
    try:
        proto = parse_file(path)
    except UserError:
        return None
    return {path.parent / location for location in externals_in(proto)}


def _tensor_of(skeleton: Skeleton, model: Model, proto: TensorProto) -> ExternalTensor:
    """What a reference stands for; training information keeps references that lowering has not looked at."""
    known = skeleton.externals.get(reference_of(proto))
    return known or external_tensor(proto, None if model.path is None else model.path.parent)


def _refer(proto: TensorProto, location: str, offset: int, length: int) -> None:
    """Let a tensor's message refer to a file instead of holding a token."""
    for name in DATA_FIELDS:
        proto.ClearField(name)
    proto.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        proto.external_data.add(key=key, value=value)


def _read_blocks(path: Path) -> Iterator[memoryview]:
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                yield memoryview(block)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


class _Packer:
    """Gives each tensor one place, however many refer to it."""

    def __init__(self) -> None:
        self.items: list[Packed] = []
        self._known: dict[object, Packed] = {}
        self._end = 0

    def add(self, tensor: Tensor, proto: TensorProto) -> None:
        key = (tensor.path, tensor.offset, tensor.length) if isinstance(tensor, ExternalTensor) else id(tensor)
        if key not in self._known:
            step = _PAGE if tensor.nbytes >= _LARGE else _LINE
            offset = -(-self._end // step) * step
            self._end = offset + tensor.nbytes
            self._known[key] = Packed(tensor, offset)
            self.items.append(self._known[key])
        self._known[key].protos.append(proto)
