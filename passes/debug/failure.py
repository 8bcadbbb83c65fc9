"""What a failure of a pass is known by: so that a smaller model is not taken to fail alike when it fails otherwise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from types import TracebackType
from typing import ClassVar

from ...errors import PassError
from ..manager import watchdog
from ..manager.base import Pass
from ..manager.text import pass_text


@dataclass(frozen=True)
class Failure:
    """A failure: the pass, the type of the exception, the place in the code that raised it, and its message.

    The place is `module:function:line`, of the last frame that lies in the package of the pass; of a pass that gave no
    sign of life it is the watchdog that stopped it, wherever it was.
    """

    DEATH: ClassVar[str] = "the process"
    """The place of a failure that ended the process; its kind is that of the `Ending`."""

    pass_: str
    kind: str
    place: str
    message: str

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The failure that an error stands for."""
        pass_ = error.failed_pass if isinstance(error, PassError) else None
        cause = error.__cause__ if pass_ is not None and error.__cause__ is not None else error
        package = type(pass_).__module__.partition(".")[0] if isinstance(pass_, Pass) else ""
        kind = type(cause)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        text = pass_text(pass_) if isinstance(pass_, Pass) else ""
        return cls(text, name, _place(cause.__traceback__, package), " ".join(str(error).split()))

    @property
    def is_death(self) -> bool:
        """Whether it ended the process."""
        return self.place == self.DEATH

    @property
    def is_stuck(self) -> bool:
        """Whether the pass was stopped because it gave no sign of life."""
        return self.place.startswith(f"{watchdog.__name__}:")

    def same_as(self, other: Failure, *, to_the_line: bool = True) -> bool:
        """Whether both are one failure: the message, which speaks of names and numbers, does not count."""
        places = (self.place, other.place)
        mine, others = places if to_the_line else (place.rpartition(":")[0] for place in places)
        return (self.pass_, self.kind, mine) == (other.pass_, other.kind, others)

    def as_dict(self) -> dict[str, str]:
        """Its parts by name, for JSON."""
        return {key.rstrip("_"): value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, parts: dict[str, str]) -> Failure:
        """What `as_dict` gave; KeyError if a part is missing."""
        return cls(parts["pass"], parts["kind"], parts["place"], parts["message"])


def _place(traceback: TracebackType | None, package: str) -> str:
    """The last frame in `package`; if there is none, or the watchdog rang there, the last one."""
    last, inside = "", ""
    while traceback is not None:
        frame = traceback.tb_frame
        module = str(frame.f_globals.get("__name__", "?"))
        last = f"{module}:{frame.f_code.co_qualname}:{traceback.tb_lineno}"
        if package and module.partition(".")[0] == package:
            inside = last
        traceback = traceback.tb_next
    return last if last.startswith(f"{watchdog.__name__}:") else inside or last
