from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file with what the test's module has as its TEXT."""
    path = tmp_path / "ecosystem.yaml"
    path.write_text(request.module.TEXT)
    return path
