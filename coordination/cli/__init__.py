"""The `coord` command: commands parse, call one operation of `coordination.api` and print.

Each command's module is imported when the command is called.

| module or package | content |
|---|---|
| `command_table.py` `app.py` | the table of commands; start and end of a call |
| `groups.py` | both spellings of a command, imported when it is called; the errors about unknown ones |
| `operation_command.py` `command.py` | a command from a declared operation; its help |
| `context.py` | the options before the command, and the facade that they open; quiet and verbose calls |
| `help.py` | `coord help` |
| `completion.py` | shell completion |
| `times.py` | times in the zone of the reader |
| `files.py`, `demo.py` | the file; the demo |
| `doctor.py` `health.py` | checks of machine, Redis and workers; health and disconnected repositories |
| `locks.py` `messages.py` `contexts.py` | locks and circuit breakers, messages, shared values |
| `trust.py` | identity; emergency access |
| `history.py` | events, listed and followed; the history of the file, trends |
| `tracker/` | the records of the file: list, show, change, check |
| `runs/` `following/` | runs: start and control; follow to their end |
| `landing/` | change sets: show, check, propose, land, revert |
| `processes/` | workers and servers |
| `options/` `screen/` | options and output that several commands have |
"""

from __future__ import annotations

import gc

_OBJECTS_PER_COLLECTION = 200_000
"""A file of 10,000 todos is 100,000 objects, none of them garbage: looking for some in them took 0.05 s of
0.4.
"""


def main() -> None:
    gc.set_threshold(_OBJECTS_PER_COLLECTION)
    from coordination.cli.app import run

    run()
