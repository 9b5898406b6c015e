"""What tests of the program share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailrace import state


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the program off this host's own state and configuration."""
    monkeypatch.setenv(state.VARIABLE, str(tmp_path / "state"))
    monkeypatch.delenv("TAILRACE_CONFIG", raising=False)
    monkeypatch.setattr("tailrace.config.SYSTEM_PATH", tmp_path / "none.toml")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return where a configuration goes."""
    return tmp_path / "tailrace.toml"
