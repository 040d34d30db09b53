"""The `coord` command. Commands parse, call one deed and print; each family's module is imported when it is called."""

from __future__ import annotations


def main() -> None:
    from coordination.cli.app import run

    run()
