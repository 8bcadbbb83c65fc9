"""Models in files: reading and writing."""

from .reading import load_model, model_from
from .writing import EXTERNAL_ABOVE, Saved, check_writable, save_model

__all__ = ["EXTERNAL_ABOVE", "Saved", "check_writable", "load_model", "model_from", "save_model"]
