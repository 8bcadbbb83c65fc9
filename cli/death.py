"""The death of a run: which pass was under way, and the reproducer, which a process of its own makes.

It runs the pipeline again up to that pass, and then the pass alone on ever smaller slices, each trial in a process.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .supervise import Crumb, Death, Trail, end_alike, supervise

if TYPE_CHECKING:
    from .job import Request
    from .progress import Bars

_FAILED = 3


def report_death(death: Death, crumb: Crumb, request: Request, *, quiet: bool) -> int:
    """Say in one line what ended the run, leave a reproducer, and return the exit code."""
    from ..passes.debug.lab import Ending

    if death.is_wanted:
        end_alike(death)
    kind = Ending(death.code, False).kind
    if death.came_to_end or not crumb.number:
        where = "after all its work" if death.came_to_end else "before the first pass"
        click.echo(f"onnxpress: error: {kind} ended the process {where}", err=True)
        return _FAILED
    found: dict[str, str] = {}
    if request.reproducer is not None:
        found = _apart(death, crumb, request, quiet=quiet)
    owner = f" (a pass of {found['owner']})" if found.get("owner") else ""
    place = f"pass {crumb.text!r}{owner} failed: {kind} ended the process"
    if not crumb.inside:
        place = f"{kind} ended the process after pass {crumb.text!r}{owner}, when its result was measured or written"
    shown = f"; onnxpress reproduce {found['folder']} shows it again" if found.get("folder") else ""
    click.echo(f"onnxpress: error: {place}{shown}", err=True)
    if request.reproducer is not None and not shown:
        click.echo(f"onnxpress: no reproducer: {found.get('problem') or 'making it ended the process too'}", err=True)
    return _FAILED


def _apart(death: Death, crumb: Crumb, request: Request, *, quiet: bool) -> dict[str, str]:
    """Make the reproducer in a process of its own, which may die as well; what it says of it."""
    reading, writing = os.pipe()
    ending = supervise(Trail())
    if ending is None:
        os.close(reading)
        with os.fdopen(writing, "w", encoding="utf-8") as pipe:
            json.dump(_made(death, crumb, request, quiet=quiet), pipe)
        sys.stderr.flush()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        words = pipe.read()
    said: dict[str, str] = json.loads(words) if words else {}
    return said


def _made(death: Death, crumb: Crumb, request: Request, *, quiet: bool) -> dict[str, str]:
    """The folder of the reproducer, or the problem, and the owner of the pass if it is another's."""
    from ..errors import OnnxpressError
    from .progress import bars

    try:
        with bars(quiet=quiet) as progress:
            return _caught(death, crumb, request, progress)
    except OnnxpressError as error:
        return {"problem": str(error)}
    except KeyboardInterrupt:
        return {"problem": "interrupted"}


def _caught(death: Death, crumb: Crumb, request: Request, progress: Bars) -> dict[str, str]:
    from ..passes.debug.failure import Failure
    from ..passes.debug.lab import Ending
    from ..passes.manager.text import pass_text
    from .job import plan
    from .question import make_lab
    from .reproduce import leave, owner_of_others

    job = plan(request)
    found = job.model_before(crumb.number, progress)
    if found is None or pass_text(found[0]) != crumb.text:
        return {"problem": "run again, the pipeline takes another way"}
    assert request.reproducer is not None
    kind = Ending(death.code, False).kind
    failure = Failure(crumb.text, kind, Failure.DEATH, f"pass {crumb.text!r}: {kind} ended the process")
    lab = make_lab(request.seed, progress)
    left = leave(failure, *found, job.asked(), request.reproducer, lab, synthetic=request.synthetic_weights)
    return {"folder" if isinstance(left, Path) else "problem": str(left), "owner": owner_of_others(found[0])}
