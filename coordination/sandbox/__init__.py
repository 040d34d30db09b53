"""Sandboxes for the commands of todos.

| module | content |
|---|---|
| `rules.py` | which sandbox holds for a todo, from the todo, its repository and the worker's settings |
| `bubblewrap.py` | whether bubblewrap works here; its command line for a command and its folders |
"""
