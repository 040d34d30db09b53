"""Drawings of plans, runs and repositories from plain data. Pure: no I/O, no clock.

| module | content |
|---|---|
| `svg.py` | SVG elements, text and colours |
| `graph_picture.py` | a layered drawing of a graph of todos, for plans and runs |
| `plan.py` | a plan as a tree, as Mermaid, as dot and as plain data for JSON |
| `pictures.py` | pictures of a plan, of a run, and of the repositories with their dependencies |
| `gantt.py` | the Gantt chart of a run: its attempts and waits |
"""
