"""The `coord` command. Commands parse, call one deed and print; each family's module is imported when it is called."""

from __future__ import annotations

import gc

_OBJECTS_PER_COLLECTION = 200_000
"""A file of 10,000 todos is 100,000 objects, none of them garbage: looking for some in them took 0.05 s of 0.4."""


def main() -> None:
    gc.set_threshold(_OBJECTS_PER_COLLECTION)
    from coordination.cli.app import run

    run()
