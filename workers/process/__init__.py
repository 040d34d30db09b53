"""Runs a todo's command under a guard, and ends what is left of it.

| module | content |
|---|---|
| `child.py` `guard.py` | a command from the worker's side; the guard, a process of its own |
| `orphans.py` | the processes of an attempt whose guard died as well |
| `trouble.py` | trouble of the machine that passes, and its errors |
"""
