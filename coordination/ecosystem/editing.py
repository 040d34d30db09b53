"""An edit of the file that either happens exactly as meant, or not at all.

Under the file's lock: read, decide what to change, make the new text, parse it again, compare its values with those
that were meant, and replace the file. An editor that does not know the lock may save in between, so the bytes are
compared once more right before the replacement, and the edit begins anew.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from coordination.ecosystem import cache, piecewise, revision
from coordination.ecosystem.changes import Changes, Edit, Place
from coordination.ecosystem.document import read_bytes, snapshot
from coordination.ecosystem.file_lock import exclusive
from coordination.ecosystem.parsing import Document, Snapshot, parse
from coordination.ecosystem.saving import save, sweep_leftovers
from coordination.ecosystem.yaml_text.tree import gc_paused
from coordination.errors import EditConflict

__all__ = ["Edit", "Place", "edit"]

ATTEMPTS = 5


def edit(path: Path, decide: Callable[[Edit], None]) -> Document:
    """The document after the changes that `decide` asks for; when it asks for none the file is not touched.

    `decide` may be called several times, each time with the file as it then stands. Raises what `decide` raises,
    EditConflict, InvalidFile (the file was broken before), CoordinationError (it cannot be written); the file is then
    as it was.
    """
    with exclusive(path.resolve()), gc_paused():
        for _ in range(ATTEMPTS):
            before = snapshot(read_bytes(path), path)
            proposal = Edit(before.document)
            decide(proposal)
            if not proposal.changes:
                return before.document
            after = _revised(before, proposal.changes)
            if read_bytes(path) == before.document.text:
                sweep_leftovers(path)
                save(path, after.document.text)
                cache.keep(after)
                return after.document
    raise EditConflict(
        f"{path} was changed {ATTEMPTS} times while it was edited", "save it in the editor and try again"
    )


def _revised(before: Snapshot, changes: Changes) -> Snapshot:
    document = before.document
    return piecewise.revise(before, changes) or revision.revise(parse(document.text, document.path), changes)
