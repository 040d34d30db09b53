"""Rendered pages, shared by all open pages that show the same: fifty of them follow an event at once, and
rendering is most of the work. A person's name, form token and nonce are marks in the text until it is sent.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

from markupsafe import escape

from coordination.dashboard.access import Visitor
from coordination.dashboard.pages import Ask, Page, plain
from coordination.dashboard.snapshots import Seen

SHARED_S = 1.0
"""Time for which a page is shared: ages of things stand in it."""
NONCE, CSRF, PERSON = (secrets.token_hex(16) for _ in range(3))
"""Marks; text of others cannot have them, for no page shows them."""


class Texts:
    """For one thread."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._kept: dict[Hashable, tuple[float, tuple[Seen[Any], ...], bytes]] = {}
        """Page and rights → the time until which it is shared, the answers it shows, and its text."""

    def get(self, ask: Ask, page: Page, position: str, render: Callable[[Ask, Page, str], str]) -> bytes:
        """Return the text of a page with marks: one that was rendered from the same answers, or a new one."""
        marked = replace(ask, visitor=replace(ask.visitor, csrf=CSRF, person=ask.visitor.person and PERSON))
        answers = (*ask.answers, *page.seen)
        if not answers or page.status != 200:
            return render(marked, page, position).encode()
        key = (
            *(ask.path, *sorted(ask.query.items()), position),
            *(frozenset(ask.may), ask.signed, ask.visitor.read_only, *ask.rights),
        )
        now = self._now()
        until, shown, text = self._kept.get(key, (0.0, (), b""))
        if now < until and len(shown) == len(answers) and all(map(_same, shown, answers)):
            return text
        text = render(marked, page, position).encode()
        self._kept = {name: one for name, one in self._kept.items() if now < one[0]}
        self._kept[key] = (now + SHARED_S, answers, text)
        return text


def _same(one: Seen[Any], other: Seen[Any]) -> bool:
    return one is other or (one.value is other.value and one.stale == other.stale)


def personal(text: bytes, visitor: Visitor, nonce: str) -> bytes:
    """Return the text of a page for a person."""
    name = str(escape(plain(visitor.person)))
    for mark, value in ((PERSON, name), (CSRF, visitor.csrf), (NONCE, nonce)):
        text = text.replace(mark.encode(), value.encode())
    return text
