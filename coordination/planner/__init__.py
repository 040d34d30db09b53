"""A plan as a graph. Pure: no I/O, no clock.

| file | |
|---|---|
| `graph.py` | plan → DAG, checked: levels, ranks, critical path; needs `selection.py` `blockers.py` `refusals.py` `paths.py` `hours.py` |
| `refusals.py` | why a plan cannot be carried out |
| `gates.py` | milestones that need an approval, as nodes of the graph |
| `resources.py` | what todos need of resources against what there is |
| `schedule.py` `bound.py` | when each todo would run under each strategy; the least that any schedule could take |
| `forecast.py` `ranking.py` `wait_chain.py` | how long it takes, which strategy is taken, what holds it up |
| `render.py` `plan_picture.py` | as tree, mermaid, dot, JSON; as a picture, by `picture.py` `layout.py` `svg.py` |
| `canvas.py` `delivery.py` | a level → Celery's chord or chain; what a message says |
"""
