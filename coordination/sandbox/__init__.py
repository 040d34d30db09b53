"""Sandboxes for the commands of todos.

| module | content |
|---|---|
| `rules.py` | which sandbox holds for a todo, from the todo, its repository and the worker's settings |
| `bubblewrap.py` | the command line of bubblewrap for a command and the folders that it may see |
| `probe.py` | whether bubblewrap works on this machine, found out by trying it |
"""
