"""Options by which a person goes on without a safeguard, as runs, events and landed commits record them.

Each of them needs the right `override`.
"""

from __future__ import annotations

from collections.abc import Iterable

NO_QA = "--no-qa"
UNMERGED = "--unmerged"


def accepting(names: Iterable[str]) -> tuple[str, ...]:
    """Return the records of accepted todos or plans."""
    return tuple(f"--accept={name}" for name in names)


def naming(repos: Iterable[str]) -> tuple[str, ...]:
    """Return the records of repositories that land only because they were named."""
    return tuple(f"--repo={repo}" for repo in repos)
