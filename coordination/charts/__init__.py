"""Drawings of plans and graphs from plain data. Pure: no I/O, no clock.

| module | content |
|---|---|
| `svg.py` | SVG elements, text and colours |
| `graph_picture.py` | a layered drawing of a graph of todos, for plans and runs |
| `plan_picture.py` | a plan as SVG |
| `plan_text.py` | a plan as tree, Mermaid, dot and JSON |

The Gantt chart reads the records of a run and is drawn in `coordination/runs/views/gantt.py`.
"""
