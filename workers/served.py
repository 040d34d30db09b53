"""The repositories that this worker serves, where each lies, and how many todos it takes at once; they may change while it works.

A repository that goes, or lies elsewhere now, takes nothing new at once, and is left when its last todo here has ended. Only then is
it served from its new folder: todos of one repository never run in two folders of a host.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

LEAVES = "is told to leave it: what runs there ends first"


class Served(Mapping[str, Path]):
    """Repository → its folder, as it stands now."""

    def __init__(self, places: Mapping[str, Path]) -> None:
        self._places = dict(places)  # never changed, only replaced: others may be going through it
        self._wanted = dict(places)
        self._in_hand: Counter[str] = Counter()
        self._guard = threading.Lock()

    def __getitem__(self, repo: str) -> Path:
        return self._places[repo]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def leaves(self, repo: str) -> bool:
        """Whether nothing new of it is to begin here."""
        return repo in self._places and self._wanted.get(repo) != self._places[repo]

    @contextmanager
    def in_hand(self, repo: str) -> Iterator[None]:
        """For a todo of the repository: its folder stays what it is. Ask `leaves` within."""
        with self._guard:
            self._in_hand[repo] += 1
        try:
            yield
        finally:
            with self._guard:
                self._in_hand[repo] -= 1
                self._in_hand += Counter()  # those that are 0 go

    def want(self, places: Mapping[str, Path]) -> None:
        """Serve these from now on, as far as what runs permits: `step` does it."""
        with self._guard:
            self._wanted = dict(places)

    def leave(self) -> tuple[str, ...]:
        """Serve no more what is to go, or to move, and has no todo in hand; returns those."""
        with self._guard:
            gone = tuple(repo for repo in self._places if self.leaves(repo) and not self._in_hand[repo])
            self._places = {repo: path for repo, path in self._places.items() if repo not in gone}
            return gone

    def take_up(self, permitted: Callable[[str, Path], bool]) -> tuple[str, ...]:
        """Serve what is wanted, and permitted; returns what is new."""
        new = {repo: path for repo, path in self._wanted.items() if repo not in self._places and permitted(repo, path)}
        with self._guard:
            self._places = {**self._places, **new}
        return tuple(new)
