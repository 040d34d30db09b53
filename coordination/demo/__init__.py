"""The sample ecosystem of `coord demo`: six packages of a small product, and the plan in `ecosystem.yaml`.

`packages/` contains templates, not code of coord: each folder becomes a git repository. `agents/` has the
file of `coord demo --agents`, and its agent, which plays a script.
"""

from coordination.demo.create import break_package, create, create_for_agents

__all__ = ["break_package", "create", "create_for_agents"]
