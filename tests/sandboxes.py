"""Bubblewrap on the machine of the tests."""

from __future__ import annotations

from functools import cache

import pytest

from coordination.sandbox import Probed, probe


@cache
def tried() -> Probed:
    return probe()


needs_bubblewrap = pytest.mark.skipif(not tried().works, reason=f"needs bubblewrap: {tried().why_not}")
