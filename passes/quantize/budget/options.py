"""What the options `budget` and `error` ask of the types of weights. Nothing of what does the work is loaded before
there is work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ...manager.context import Context
from ..alphabet import AFFINE
from ..decode import DecodeForm
from ..plan import Plan, Refusal
from ..recipe import Recipe, WeightType
from .limit import Limit

Others = Callable[[Plan, Sequence[Recipe]], list[Plan]]
"""A weight by other recipes, where it can be written by them."""
SIGNED: tuple[WeightType, ...] = ("int2", "int4", "int8", "int16")
UNSIGNED: tuple[WeightType, ...] = ("uint2", "uint4", "uint8", "int16")


def nothing() -> None:
    """Change no more."""


@dataclass(frozen=True)
class Precision:
    """How the type of each weight is chosen: within `budget` bytes any at the least error; or, where the outputs move
    by more than `error`, a wider one than was asked for. `recipe` is what was asked for; `memory` are bytes of second
    moments that may be held at a time, `rounds` says that weights are rounded by outputs."""

    recipe: Recipe
    budget: Limit | None = None
    error: float | None = None
    memory: int = 1 << 30
    rounds: bool = False
    then: Callable[[], None] = nothing
    """What will change the model afterwards, and counts for `error` as well: units come to run in integers."""

    def within_budget(
        self, ctx: Context, form: DecodeForm, plans: Sequence[Plan], others: Others
    ) -> Sequence[Plan | Refusal]:
        """For every weight the plan that the budget is best spent on."""
        if self.budget is None:
            return plans
        from .spend import spent

        return spent(ctx, form, plans, lambda plan: others(plan, self.recipes), self)

    def within_error(
        self, ctx: Context, form: DecodeForm, plans: Sequence[Plan], others: Others
    ) -> Sequence[Plan | Refusal]:
        """For every weight its plan, or one in more bits where the outputs err too much."""
        if self.error is None or not plans or ctx.samples is None:
            return plans
        from .widen import widened

        return widened(ctx, form, plans, lambda plan: others(plan, self.wider), self)

    @property
    def recipes(self) -> list[Recipe]:
        """All types of integers, with steps of blocks too where 8 bits alone would have them for channels."""
        made = [replace(self.recipe, type=name) for name in SIGNED]
        return made[:3] + self._in_blocks(made[2]) + made[3:]

    @property
    def wider(self) -> list[Recipe]:
        """Those with more bits than were asked for; books are followed by integers."""
        types = UNSIGNED if self.recipe.type.startswith("uint") else SIGNED
        linear = self.recipe if self.recipe.type in AFFINE else replace(self.recipe, symmetric=True)
        linear = replace(linear, levels="linear") if self.recipe.is_book else linear
        made = [replace(linear, type=name) for name in types]
        bits = self.recipe.alphabet.bits
        more = [one for one in made if one.alphabet.bits > bits]
        blocks = self._in_blocks(made[2]) if bits <= 8 else []
        return more[:-1] + blocks + more[-1:]

    def _in_blocks(self, recipe: Recipe) -> list[Recipe]:
        return [replace(recipe, granularity="block")] if recipe.granularity == "auto" else []
