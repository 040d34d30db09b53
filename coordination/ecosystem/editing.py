"""An edit of the file that either happens exactly as meant, or not at all.

Under the file's lock: read, decide the splices and the values that they should lead to, apply, parse the result again,
compare, and replace the file. An editor that does not know the lock may save in between, so the bytes are compared
once more right before the replacement, and the edit begins anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordination.ecosystem.document import Document, Draft, parse, read_bytes
from coordination.ecosystem.file_lock import exclusive
from coordination.ecosystem.saving import save
from coordination.ecosystem.splices import Splice, apply
from coordination.ecosystem.tree import gc_paused
from coordination.errors import EditConflict, InvalidFile

ATTEMPTS = 5


@dataclass(frozen=True, kw_only=True)
class Change:
    """What to splice into the text, and the values that the whole file must then have."""

    splices: tuple[Splice, ...]
    expected: dict[str, Any]


def edit(path: Path, decide: Callable[[Draft], Change]) -> Document:
    """The document after the change; without splices the file is not touched.

    `decide` may be called several times, each time with a fresh draft whose `data` it may alter. Raises EditConflict,
    InvalidFile (the file was broken before), CoordinationError (it cannot be written); the file is then as it was.
    """
    with exclusive(path.resolve()), gc_paused():
        for _ in range(ATTEMPTS):
            draft = parse(read_bytes(path), path)
            change = decide(draft)
            if not change.splices:
                return draft.document
            document = _proved(draft, change)
            if read_bytes(path) == draft.document.text:
                save(path, document.text)
                return document
    raise EditConflict(
        f"{path} was changed {ATTEMPTS} times while it was edited", "save it in the editor and try again"
    )


def _proved(draft: Draft, change: Change) -> Document:
    path = draft.document.path
    raw = draft.tree.encode(apply(draft.tree.text, change.splices))
    try:
        result = parse(raw, path)
    except InvalidFile as error:
        raise EditConflict(f"{path} cannot be edited safely: {error.message}", _BY_HAND) from error
    if result.data != change.expected and repr(result.data) != repr(change.expected):  # .nan differs from itself
        raise EditConflict(f"{path} cannot be edited safely: more than the meant values would change", _BY_HAND)
    return result.document


_BY_HAND = "nothing was written; make the change by hand"
