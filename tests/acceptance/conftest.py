"""Workplaces: one for a test, or one that the tests of a module look at together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.workplace import Workplace


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    workplace = Workplace(tmp_path_factory.mktemp("place"))
    yield workplace
    workplace.end()


@pytest.fixture(scope="module")
def new_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Workplace]]:
    """Makes workplaces that live as long as the module's tests."""
    made: list[Workplace] = []

    def make() -> Workplace:
        made.append(Workplace(tmp_path_factory.mktemp("place")))
        return made[-1]

    yield make
    for workplace in made:
        workplace.end()
