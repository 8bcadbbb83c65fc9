"""Profiles of hypothesis: `ci` is short and the same on every run, `fuzz` is long and never the same.

`pytest --hypothesis-profile=fuzz` chooses, and so does the environment variable ONNXPRESS_FUZZ=1.
"""

import os

from hypothesis import settings

settings.register_profile("ci", max_examples=40, derandomize=True, deadline=None, database=None)
settings.register_profile("fuzz", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile("fuzz" if os.environ.get("ONNXPRESS_FUZZ") == "1" else "ci")
