"""Reproducers: a folder with the smallest model on which a pass still fails, and all that is needed to see it again."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import UserError
from ...ir import Model
from ..manager.base import Pass
from ..manager.manager import IDLE_LIMIT
from ..manager.registry import distributions_of
from ..manager.text import pass_text
from .condition import Condition, When
from .failure import Failure
from .inputs import inputs_npz
from .lab import Feeds, Lab
from .reduce import Plan, Reduction, reduce_model

MODEL, PIPELINE, INPUTS, FACTS, README = "model.onnx", "pipeline.txt", "inputs.npz", "failure.json", "README.txt"
STUCK = 2.0
"""Seconds that a pass which gave no sign of life may do so again in a trial, and when it is reproduced."""
_NAME = "onnxpress-reproducer"
_WORDS = """A pass of onnxpress failed on this model. To see it again:

    onnxpress reproduce FOLDER

with this folder's name, where onnxpress and the pass's package are installed. model.onnx is the smallest part of the
original found on which the pass still fails in the same way; pipeline.txt is what to run; failure.json tells the error,
the versions and the seed.
"""


@dataclass(frozen=True)
class Case:
    """A failure to be written down: the pass, the model it failed on, and what it was fed."""

    pass_: Pass
    model: Model
    failure: Failure
    feeds: Feeds
    gives_data: bool = False


@dataclass(frozen=True)
class Reproducer:
    """What a folder holds."""

    pipeline: str
    failure: Failure
    seed: int
    versions: Mapping[str, str]
    measured: bool
    gives_data: bool
    idle_limit: float
    """Seconds after which a pass without a sign of life is stopped."""


def reduce_case(case: Case, lab: Lab, *, synthetic: bool = False, trials: int = 200) -> tuple[Reduction, bool] | None:
    """The smallest model on which the pass fails in the same way, and whether errors must be measured for it; None if
    it does not fail again."""
    if case.failure.is_death:
        return _reduce_death(case, lab, Plan(trials, synthetic, lab.seed))
    if case.failure.is_stuck:
        lab = replace(lab, idle_limit=min(STUCK, lab.idle_limit or STUCK))
    for measured in (False, True) if case.feeds else (False,):
        feeds = case.feeds if measured or case.gives_data else ()
        condition = Condition(
            When("fails"), [case.pass_], lab, gives_data=case.gives_data, measured=measured, failure=case.failure
        )
        plan = Plan(trials, synthetic, lab.seed)
        found = reduce_model(case.model, feeds, condition.holds, lab.backend, lab.progress, plan)
        if found is not None:
            return found, measured
    return None


def _reduce_death(case: Case, lab: Lab, plan: Plan) -> tuple[Reduction, bool] | None:
    """The same where the process ended: every trial is a process, which makes its inputs if it is given none."""
    condition = Condition(When("crash"), [case.pass_], lab, failure=case.failure)
    for feeds in (case.feeds,) if case.gives_data or not case.feeds else ((), case.feeds):
        found = reduce_model(case.model, feeds, condition.holds, lab.backend, lab.progress, plan)
        if found is not None:
            return found, bool(feeds)
    return None


def write_reproducer(
    parent: Path,
    case: Case,
    reduction: Reduction,
    *,
    measured: bool,
    seed: int,
    versions: Mapping[str, str],
    save: Callable[[Model, Path], object],
) -> Path:
    """Write a new folder below `parent`, which is made if need be, whole or not at all, and return it; OSError where
    that cannot be done."""
    facts = {
        "failure": case.failure.as_dict(),
        "gives_data": case.gives_data,
        "idle_limit": STUCK if case.failure.is_stuck else IDLE_LIMIT,
        "measured": measured,
        "nodes": reduction.nodes,
        "nodes_before": reduction.nodes_before,
        "seed": seed,
        "synthetic_weights": reduction.synthetic_weights,
        "versions": {**versions, **distributions_of([case.pass_]), "python": platform.python_version()},
    }
    inputs = inputs_npz(reduction.feeds)
    parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{_NAME}-", dir=parent))
    try:
        save(reduction.model, made / MODEL)
        (made / PIPELINE).write_text(f"{pass_text(case.pass_)}\n", encoding="utf-8")
        if inputs is not None:
            (made / INPUTS).write_bytes(inputs)
        (made / FACTS).write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        (made / README).write_text(_WORDS, encoding="utf-8")
        return _moved(made, parent)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def _moved(made: Path, parent: Path) -> Path:
    """Give the folder the first name that is free."""
    made.chmod(0o755)
    for number in range(1, 10_000):
        target = parent / f"{_NAME}-{number}"
        if not target.exists():
            os.rename(made, target)
            return target
    raise OSError(f"{parent} holds 10,000 reproducers")


def read_reproducer(folder: Path) -> Reproducer:
    """What a folder holds besides the model; UserError if it is no reproducer."""
    if not folder.is_dir():
        raise UserError(f"{folder}: is no folder")
    try:
        facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        return Reproducer(
            (folder / PIPELINE).read_text(encoding="utf-8"),
            Failure.from_dict(facts["failure"]),
            int(facts["seed"]),
            dict(facts["versions"]),
            bool(facts["measured"]),
            bool(facts["gives_data"]),
            float(facts["idle_limit"]),
        )
    except OSError as error:
        raise UserError(f"{folder}: no reproducer: {Path(str(error.filename)).name}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / FACTS}: is damaged: {type(error).__name__} {error}") from None
