"""Reads runs for people and programs. Changes nothing.

| module | content |
|---|---|
| `run_view.py`, `todo_view.py` | a run with its todos; one todo: state, wait, durations |
| `run_list.py` | the newest runs, by plan and status |
| `raw_records.py` | the fields of todos as Redis keeps them |
| `run_events.py` | the events of a run: all of them, or followed |
| `progress.py`, `progress_reader.py` | the progress of a live run: computed from its todos; read from Redis |
| `waves.py` | the waves of a landing, from its todos |
| `timeline.py`, `gantt.py` | the attempts and waits of each todo over time; the same as an SVG chart |
| `pictures.py` | the graph and the Gantt chart of a run |
| `live.py`, `live_todos.py` | the state of runs, locks and breakers at this moment; todos in live runs |
| `waiting_todos.py` | manual todos and gates that wait for a person |
| `durations.py` | learned durations |
| `run_figures.py` | the lower bound and the waits of an ended run, for the history |
| `metrics.py` | counts for Prometheus |
"""
