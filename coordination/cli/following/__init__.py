"""Following runs on a terminal or in a log, and their results.

| module | content |
|---|---|
| `follow.py` | start a run, follow it to its end, write it back, print its result |
| `live_progress.py` `progress_text.py` | output while the run works |
| `summary.py` `advice.py` | a run and its todos as text; next commands after a run |
"""
