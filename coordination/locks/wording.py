"""Who holds or waits, as people read it."""

from __future__ import annotations

from collections.abc import Mapping


def holder_words(request: Mapping[str, str]) -> str:
    """From the fields of a request: `process 12 on anvil (build)`, or `TODO-1 of run 20261121-1`."""
    if request.get("kind") == "todo":
        run, _, todo = request["id"].partition(" ")
        return f"{todo} of run {run}"
    pid, thread, label = (request.get(field, "") for field in ("pid", "thread", "label"))
    words = f"process {pid or '?'} on {request.get('host') or '?'}"
    if thread and thread != pid:  # not its first one
        words += f", thread {thread}"
    return f"{words} ({label})" if label else words
