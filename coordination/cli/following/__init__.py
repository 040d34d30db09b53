"""Following runs on a terminal or in a log, and their results.

| module | content |
|---|---|
| `follow.py` | start a run, follow it to its end, write it back, print its result and the next commands |
| `live_progress.py` | output while the run works |
| `summary.py` | a run and its todos as text |
"""
