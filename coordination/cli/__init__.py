"""The `coord` command. Commands parse, call one operation and print; each family's module is imported when it is called.

| file | |
|---|---|
| `app.py` | the table of commands; how a call begins and ends |
| `context.py` `live.py` | what a command works with; what runs do at present, in passing |
| `completion.py` `completing.py` | Tab: the shell's script, and what it is answered |
| `files.py` `demo.py` `doctor.py` | to begin with |
| `locks.py` `breakers.py` `messages.py` `context_commands.py` | what runs share: locks, breakers, messages, values |
| `desk/` | what the file declares: listed, shown, changed, checked |
| `runs/` | plans carried out, followed, steered |
| `processes/` | what goes on by itself: workers, servers |
| `options/` `screen/` | what people say, and what they see, for all of these |
"""

from __future__ import annotations

import gc

_OBJECTS_PER_COLLECTION = 200_000
"""A file of 10,000 todos is 100,000 objects, none of them garbage: looking for some in them took 0.05 s of 0.4."""


def main() -> None:
    gc.set_threshold(_OBJECTS_PER_COLLECTION)
    from coordination.cli.app import run

    run()
