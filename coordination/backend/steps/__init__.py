"""Declares every Lua step once, as a class: its name, keys, typed arguments, typed reply and flags.

A step is one atomic change in Redis, `lua/<package>/<name>.lua`. An object of its class is one call of it:
`Release(request=…, party=…)`. A StepCaller sends it and returns the converted reply, so that mypy checks each
call and each reader of a reply. The library registers the functions with the declared counts and flags.

| module | steps of the folders |
|---|---|
| `run.py` | run |
| `lock.py` | lock |
| `breaker.py` | breaker |
| `message.py` | message, inbox |
| `cache.py` | cache |
| `namespace.py` | event, fleet, lease, log, queue |
| `step.py` | the base classes |
"""

from __future__ import annotations

from coordination.backend.steps import (  # noqa: F401 -- they fill STEPS
    breaker,
    cache,
    lock,
    message,
    namespace,
    run,
)
from coordination.backend.steps.step import STEPS, Step, StepMisuse, StepValue

__all__ = ["STEPS", "Step", "StepMisuse", "StepValue"]
