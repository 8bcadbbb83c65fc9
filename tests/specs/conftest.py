"""What tests of failing checks share."""

from collections.abc import Iterator

import pytest
from hypothesis import Phase, settings


@pytest.fixture
def _unshrunk() -> Iterator[None]:
    """No time is spent on making failures small."""
    before = settings.get_current_profile_name()
    settings.register_profile(
        "unshrunk", settings.get_profile(before), phases=[Phase.generate], report_multiple_bugs=False
    )
    settings.load_profile("unshrunk")
    yield
    settings.load_profile(before)
