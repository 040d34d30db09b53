"""Drawings of plans and graphs from plain data. Pure: no I/O, no clock.

| module | content |
|---|---|
| `svg.py` | SVG elements, text and colours |
| `graph_picture.py` | a layered drawing of a graph of todos, for plans and runs |
| `plan.py` | a plan as SVG, as a tree, as Mermaid and dot, with the status of each todo |
| `repositories.py` | the repositories and their dependencies |
| `plan_data.py` | a plan as plain data, for JSON |

The Gantt chart reads the records of a run and is drawn in `coordination/runs/views/pictures.py`.
"""
