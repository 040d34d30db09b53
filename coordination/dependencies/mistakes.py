"""What is wrong with a dependency as it is written, so that no check will ever say anything: to be told while it is written."""

from __future__ import annotations

from collections.abc import Iterator

from coordination.dependencies.constraints import EXAMPLES, Rules, read
from coordination.dependencies.probes import mistake_in
from coordination.errors import UsageError
from coordination.models import Dependency


def mistakes(dependency: Dependency) -> Iterator[str]:
    """Sentences. What `senseless` names is refused, and may stand in a file all the same."""
    yield from senseless(dependency)
    if dependency.validation is not None and (mistake := mistake_in(dependency.validation)):
        yield f"{dependency.id} cannot be checked: {mistake}"


def senseless(dependency: Dependency) -> Iterator[str]:
    """Sentences. The language of the provider is not looked up: a constraint is wrong that no language reads."""
    if dependency.consumer == dependency.provider:
        yield f"{dependency.id}: {dependency.consumer} needs itself"
    constraint = dependency.version_constraint
    if constraint is not None and not any(_reads(constraint, rules) for rules in Rules):
        example = EXAMPLES[Rules.ANY]
        yield f"{dependency.id} cannot be checked: version_constraint {constraint!r} is none; write it like {example}"


def _reads(constraint: str, rules: Rules) -> bool:
    try:
        read(constraint, rules)
    except UsageError:
        return False
    return True
