"""Dependency graphs, forecasts and schedules of plans. Pure: no I/O, no clock.

| module | content |
|---|---|
| `graph.py` | a plan as a validated graph: levels, ranks, critical path |
| `generated.py` | the graph of todos that coord makes and no file has |
| `finished.py` | the graph with finished todos, to be drawn |
| `selection.py` | the todos of a plan that a sweep executes |
| `blockers.py` | blockers of todos across issues, plans and milestones; why a plan cannot be executed |
| `paths.py` | levels, ranks, critical path and redundant edges of an acyclic graph |
| `gates.py` | milestones with a gate, as nodes of the graph |
| `checks.py` | quality checks as todos: of repositories, of a plan, of acceptance criteria |
| `hours.py` | estimated, learned and assumed durations |
| `schedule.py` | simulated schedules of each strategy, the lower bound of any schedule, resources |
| `remaining.py` | percent and remaining time of a run |
| `forecast.py` `wait_chain.py` | duration, choice of strategy, bottleneck; the chain of waits in a schedule |
"""
