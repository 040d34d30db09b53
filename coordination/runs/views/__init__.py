"""Reads runs for people and programs. Changes nothing.

| module | content |
|---|---|
| `records.py` | the records that all front ends show |
| `run_view.py` | a run with its todos, and learned durations |
| `todo_view.py` | one todo: state, wait, times; the waves of a landing |
| `run_list.py` | the newest runs, by plan and status |
| `progress.py`, `progress_reader.py` | the progress of a live run: computed from its todos; read from Redis |
| `timeline.py` | the events of a run, read or followed; the attempts and waits of each todo over time |
| `live.py` | the state of runs, locks and breakers at this moment; the todos of the file in runs; those that
  wait for a person |
| `metrics.py` | counts for Prometheus; the lower bound and the waits of an ended run, for the history |
"""
