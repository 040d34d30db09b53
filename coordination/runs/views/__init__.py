"""Reads runs for people and programs. Changes nothing.

| module | content |
|---|---|
| `run_view.py`, `todo_view.py` | a run with its todos, and learned durations; one todo: state, wait, times |
| `run_list.py` | the newest runs, by plan and status |
| `run_events.py` | the events of a run: all of them, or followed |
| `progress.py`, `progress_reader.py` | the progress of a live run: computed from its todos; read from Redis |
| `waves.py` | the waves of a landing, from its todos |
| `timeline.py` | the attempts and waits of each todo over time |
| `pictures.py` | the graph and the Gantt chart of a run |
| `live.py` | the state of runs, locks and breakers at this moment; the todos of the file in runs |
| `waiting_todos.py` | manual todos and gates that wait for a person |
| `metrics.py` | counts for Prometheus; the lower bound and the waits of an ended run, for the history |
"""
