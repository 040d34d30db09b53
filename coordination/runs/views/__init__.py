"""Reads runs for people and programs. Changes nothing.

| module | content |
|---|---|
| `records.py` | the records that all front ends show |
| `run_view.py` | a run with its todos, and learned durations |
| `todo_view.py` | one todo: state, wait, times |
| `levels_and_waves.py` | the todos of a run by level, those of a landing by wave; pure |
| `run_list.py` | the newest runs, by plan and status |
| `progress.py`, `progress_reader.py` | the progress of a live run: computed from its todos; read from Redis |
| `run_events.py` | the events of a run, read or followed |
| `timeline.py` | the attempts and waits of each todo over time; pure |
| `todos_in_runs.py` | the todos of the file in runs; those that wait for a person |
| `live.py` | the state of runs, locks and breakers at this moment |
| `costs.py` | what agents have used, summed up |
| `history_figures.py` | the lower bound and the waits of an ended run, for the history |
| `metrics.py` | counts for Prometheus |
"""
