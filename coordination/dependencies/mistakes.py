"""Mistakes in the declaration of a dependency, found when it is written, because no check
could ever succeed.
"""

from __future__ import annotations

from collections.abc import Iterator

from coordination.dependencies.constraints import EXAMPLES, Rules, read
from coordination.dependencies.probes import mistake_in
from coordination.errors import UsageError
from coordination.models import Dependency


def mistakes(dependency: Dependency) -> Iterator[str]:
    """Yield all mistakes as sentences, including those for which `invalid_fields` makes edits
    refuse the record.
    """
    yield from invalid_fields(dependency)
    if dependency.validation is not None and (mistake := mistake_in(dependency.validation)):
        yield f"{dependency.id} cannot be checked: {mistake}"


def invalid_fields(dependency: Dependency) -> Iterator[str]:
    """Yield mistakes for which edits refuse the record, as sentences.

    The provider's language is not looked up: a constraint is a mistake only if no language can read it.
    """
    if dependency.consumer == dependency.provider:
        yield f"{dependency.id}: {dependency.consumer} needs itself"
    constraint = dependency.version_constraint
    if constraint is not None and not any(_is_readable(constraint, rules) for rules in Rules):
        example = EXAMPLES[Rules.ANY]
        yield (
            f"{dependency.id} cannot be checked: {constraint!r} is not a version_constraint; "
            f"write it like {example}"
        )


def _is_readable(constraint: str, rules: Rules) -> bool:
    try:
        read(constraint, rules)
    except UsageError:
        return False
    return True
