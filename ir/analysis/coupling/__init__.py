"""Coupling: which axes of which values and weights must be cut together, and which must stay."""

from .axes import Axis, Fix
from .groups import POINTWISE, Group, Mode, couple
from .sizes import rewritten

__all__ = ["POINTWISE", "Axis", "Fix", "Group", "Mode", "couple", "rewritten"]
