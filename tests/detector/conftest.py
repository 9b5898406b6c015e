"""What tests of the engines share."""

from __future__ import annotations

import pytest
from conformance import MODELS


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)
