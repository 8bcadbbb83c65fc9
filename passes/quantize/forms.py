"""The forms of decoding, by the names that the option `form` gives them."""

from __future__ import annotations

from .cast_form import CastForm
from .decode import DecodeForm
from .dq_form import DequantizeForm

FORMS: dict[str, DecodeForm] = {form.name: form for form in (CastForm(), DequantizeForm())}
