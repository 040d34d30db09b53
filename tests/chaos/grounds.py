"""A stage outside of pytest: a folder of its own, and whatever was started there ended with it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.stage import Stage


@contextmanager
def grounds() -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="coord-chaos-", ignore_cleanup_errors=True) as folder:
        stage = Stage(Path(folder).resolve())
        try:
            yield stage
        finally:
            stage.end()
