"""The sample ecosystem of `coord demo`: six packages of one small product, and the plan in `ecosystem.yaml`.

`packages/` is a template, not code of coord: each folder becomes a git repository of its own.
"""

from coordination.demo.create import create
from coordination.demo.fault import break_package

__all__ = ["break_package", "create"]
