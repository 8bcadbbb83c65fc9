"""What the option `budget` says: a share of the bytes of the float constants, or a number of bytes."""

from __future__ import annotations

from dataclasses import dataclass

from ....errors import UserError
from ...manager.units import read_float, read_size, show_size


@dataclass(frozen=True)
class Limit:
    """Bytes that constants which were float may take: `share` of what they took, or `nbytes`."""

    share: float | None
    nbytes: int = 0

    @classmethod
    def of(cls, text: str) -> Limit:
        """`0.15` and `15%` are shares, `2MB` and `20000` bytes; UserError for all else."""
        try:
            number = read_float(text)
        except ValueError:
            return cls(None, _size(text))
        if "%" in text or 0 <= number <= 1:
            if not 0 < number <= 1:
                raise UserError(f"budget={text}: a share lies above 0 and is at most 1")
            return cls(number)
        return cls(None, _size(text))

    def room(self, total: int) -> int:
        """Bytes, where the float constants took `total`."""
        return self.nbytes if self.share is None else int(self.share * total)

    def __str__(self) -> str:
        return show_size(self.nbytes) if self.share is None else f"{self.share:g}"


def _size(text: str) -> int:
    try:
        return read_size(text)
    except ValueError as error:
        raise UserError(f"budget={text}: a share such as 0.15 or 15%, or bytes such as 2MB ({error})") from None
