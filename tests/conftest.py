"""For all tests: no deadline for a property, since a shared machine stalls now and then.

And a log of its own for each test: the program's voice takes what all parts log, for good.
"""

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

settings.register_profile("tailrace", deadline=None)
settings.load_profile("tailrace")


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    yield
    structlog.reset_defaults()
