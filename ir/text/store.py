"""Stores of the tensors that a text holds by digest: another model, or a folder with one file a digest."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.message import DecodeError
from onnx import TensorProto

from ...errors import UserError
from ..model import Model
from .digests import Find, Keep, copy_data, digest_of
from .printer import Printer
from .tensors import Style

Weights = Model | Path | str
_SUFFIX = ".tensor"


def save_weights(model: Model, folder: Path | str) -> None:
    """Write each tensor that `model` printed in full holds by digest to a file of that name.

    Raises UserError if the folder cannot be written to.
    """
    place = Path(folder)

    def keep(digest: str, source: TensorProto) -> None:
        message = TensorProto(data_type=source.data_type, dims=source.dims)
        copy_data(source, message)
        (place / f"{digest}{_SUFFIX}").write_bytes(message.SerializeToString(deterministic=True))

    try:
        place.mkdir(parents=True, exist_ok=True)
        _walk(model, keep)
    except OSError as error:
        raise UserError(f"weights cannot be written to {place}: {error.strerror or error}") from error


def finder(weights: Weights | None) -> Find:
    """Looks digests up in a model (nothing is copied) or a folder made by `save_weights`; finds nothing in None."""
    if weights is None:
        return lambda digest: None
    if isinstance(weights, Model):
        return _in_model(weights)
    folder = Path(weights)
    return lambda digest: _in_folder(folder, digest)


def _in_model(model: Model) -> Find:
    found: dict[str, TensorProto] = {}

    def find(digest: str) -> TensorProto | None:
        if not found:
            _walk(model, found.__setitem__)
        return found.get(digest)

    return find


def _in_folder(folder: Path, digest: str) -> TensorProto | None:
    path = folder / f"{digest}{_SUFFIX}"
    try:
        message: TensorProto = TensorProto.FromString(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, DecodeError) as error:
        raise UserError(f"{path} cannot be read as a tensor: {error}") from error
    if digest_of(message) != digest:
        raise UserError(f"{path} does not hold the tensor that its name says: write it again")
    return message


def _walk(model: Model, keep: Keep) -> None:
    """Print the model for the sake of the tensors alone: so what a text refers to is just what a store has."""
    for _ in Printer(Style(True, keep)).model(model):
        pass
