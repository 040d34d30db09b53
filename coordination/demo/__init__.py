"""The sample ecosystem of `coord demo`: six packages of a small product, and the plan in `ecosystem.yaml`.

`packages/` contains templates, not code of coord: each folder becomes a git repository.
"""

from coordination.demo.create import break_package, create

__all__ = ["break_package", "create"]
