"""The named pipelines that simplify: what everything else starts from.

First what is dead or fixed goes (functions, constants, Ifs that are decided, equal weights), since others that read a
value hold rules back; then the rules run in rounds until none fits. `recognize` comes before `fuse`, which would put
the divisor of a hard-swish into the next layer.
"""

from __future__ import annotations

SIMPLIFY = "inline,dce,fold,dedupe,fixpoint{max=4}(canonicalize,cse,recognize,fuse,fold,dedupe),dce"
"""EXACT and ROUNDING passes that keep the opset."""

SIMPLIFY_OPERATORS = f"inline,dce,fold,dedupe,canonicalize,cse,recognize{{opset=23}},{SIMPLIFY}"
"""The same, with the opset raised to at most 23, as far as standard operators that are recognized need it."""
