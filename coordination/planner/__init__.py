"""Dependency graphs, forecasts and schedules of plans. Pure: no I/O, no clock.

| module | content |
|---|---|
| `graph.py` | a plan as a validated graph: levels, ranks, critical path; with finished todos, to be drawn |
| `generated.py` | the graph of todos that coord makes and no file has |
| `proposal.py` | the schema of a plan that an agent proposes |
| `selection.py` | the todos of a plan that a sweep executes |
| `blockers.py` | blockers of todos across issues, plans and milestones; why a plan cannot be executed |
| `paths.py` | levels, ranks, critical path and redundant edges of an acyclic graph |
| `gates.py` | milestones with a gate, as nodes of the graph |
| `checks.py` | quality checks as todos: of repositories, of a plan, of acceptance criteria |
| `hours.py` | estimated, learned and assumed durations |
| `schedule.py` | simulated schedules of each strategy, the lower bound of any schedule, resources |
| `remaining.py` | percent and remaining time of a run |
| `strategy.py` | the choice between the strategies, by simulation |
| `forecast.py` | the forecast of a plan, and its bottleneck |
"""
