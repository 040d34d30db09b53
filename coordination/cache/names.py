"""What keys and contexts are called; judged before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase

from coordination.errors import UsageError
from coordination.patterns import mistake_in

LONGEST_KEY = 255
NAMES_AT_ONCE = 1000
"""In one call of a todo or a restricted worker: who serves it serves others, too."""
PATTERNS_AT_ONCE = 20
"""Of those names: each is held against every key that is to be seen."""
REQUEST_SLACK_BYTES = 1024 * 1024
"""Of a request for a context, beside a value."""
GLOB = "*?[]"
"""In a pattern: hence not in a key, and whoever reads one knows which it is."""

_CLASS = re.compile(r"\[!?\]?[^\]]+\]")
_OPEN = re.compile(r"[\[\]]")


def check_key(key: object) -> str:
    """Raises UsageError."""
    if not isinstance(key, str) or not key:
        raise UsageError(f"a key is a text that is not empty, not {key!r}", "name it as you would a variable or a path")
    if len(key) > LONGEST_KEY:
        raise UsageError(
            f"a key of {len(key):,} characters is too long", f"at most {LONGEST_KEY}: a digest of it will do"
        )
    if not key.isprintable() or key != key.strip():
        raise UsageError(f"{key!r} is no key", "leave out line breaks, control characters and blanks at its ends")
    if any(letter in GLOB for letter in key):
        raise UsageError(f"{key!r} is no key: {' '.join(GLOB)} make a pattern", "leave them out")
    return key


def check_value(value: bytes, most: int) -> None:
    """Raises UsageError."""
    if len(value) > most:
        raise UsageError(
            f"the value has {len(value):,} bytes, more than {most:,}",
            "keep a path or a digest instead, or raise cache_value_bytes",
        )


def check_names(names: Sequence[str]) -> Sequence[str]:
    """Raises UsageError."""
    if len(names) > NAMES_AT_ONCE:
        raise UsageError(f"{len(names):,} names in one call", f"at most {NAMES_AT_ONCE:,}: delete them in pieces")
    if (patterns := sum(map(is_pattern, names))) > PATTERNS_AT_ONCE:
        raise UsageError(f"{patterns} patterns in one call", f"at most {PATTERNS_AT_ONCE}: delete them in pieces")
    return names


def in_pieces(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many of them as one call may have."""
    patterns = [name for name in names if is_pattern(name)]
    keys = [name for name in names if not is_pattern(name)]
    for some, most in ((keys, NAMES_AT_ONCE), (patterns, PATTERNS_AT_ONCE)):
        yield from (some[at : at + most] for at in range(0, len(some), most))


def check_request(asked: bytes, value_bytes: int) -> None:
    """Raises UsageError. A value is a text in a text, with a backslash before each of its quotes: those do not count."""
    if (size := len(asked) - asked.count(b"\\")) > value_bytes + REQUEST_SLACK_BYTES:
        raise UsageError(f"the request has {size:,} bytes", "keep a path or a digest instead, and delete in pieces")


class Scope(StrEnum):
    """Whose context it is, the outermost first."""

    ECOSYSTEM = "ecosystem"
    PLAN = "plan"
    RUN = "run"
    TODO = "todo"


Chain = tuple[str, ...]
"""A context with its outer ones, the inner one first."""


def chain_of(plan: str = "", runs: Sequence[str] = (), todo: str = "") -> Chain:
    """`runs`: a run, and those that it carries on; their contexts are outer ones of its own. `todo` is one of the first run."""
    inner = [f"{Scope.TODO}/{runs[0]}/{todo}"] if todo and runs else []
    plans = [f"{Scope.PLAN}/{plan}"] if plan else []
    return check_contexts([*inner, *(f"{Scope.RUN}/{run}" for run in runs), *plans, Scope.ECOSYSTEM.value])


def outward(chain: Chain, scope: Scope | None) -> Chain:
    """From the context of this scope outward. Raises UsageError where there is none."""
    if scope is None:
        return chain
    for place, context in enumerate(chain):
        if scope_of(context) == scope:
            return chain[place:]
    raise UsageError(f"no {scope} is meant here", f"name one, or choose: {', '.join(map(scope_of, reversed(chain)))}")


def written(chain: Chain) -> Chain:
    """From the context outward to which a write goes without a word: a todo's goes to its run's."""
    return chain[1:] if scope_of(chain[0]) == Scope.TODO else chain


def scope_of(context: str) -> str:
    return context.partition("/")[0]


def of_run(run_id: str, todos: Iterable[str]) -> Chain:
    """All contexts that go with a run."""
    return (f"{Scope.RUN}/{run_id}", *(f"{Scope.TODO}/{run_id}/{todo}" for todo in todos))


STORE = "bytes"
"""Before all names of the tree, so that it is seen at once whether there is one of these."""


def store(name: str) -> str:
    """Of a Store, beside the tree."""
    return f"{STORE}/{name}"


def check_contexts(contexts: Sequence[str]) -> Chain:
    """Raises UsageError: a name goes into a key of Redis."""
    for one in contexts:
        if not one or not one.isprintable() or any(letter.isspace() for letter in one) or len(one) > 2 * LONGEST_KEY:
            raise UsageError(f"{one!r} names no context", "names of plans, runs and todos have no blanks")
    return tuple(contexts)


def check_pattern(pattern: str) -> str:
    """As shells have them: `*`, `?`, `[a-z]`, `[!a-z]`. Raises UsageError."""
    if not pattern or len(pattern) > LONGEST_KEY or not pattern.isprintable():
        raise UsageError(f"{pattern!r} is no pattern", "such as: build.* or part-[0-9]")
    if _OPEN.search(_CLASS.sub("", pattern)):
        raise UsageError(f"{pattern!r} is no pattern: a [ is not closed, or a ] not opened", "such as: part-[0-9]")
    return pattern


def matcher(pattern: str, regex: bool = False) -> Callable[[str], bool]:
    """Return whether a key fits: a glob fits the whole key, a regular expression any part of it. Raises UsageError."""
    if not regex:
        glob = check_pattern(pattern)
        return lambda key: fnmatchcase(key, glob)
    if mistake := mistake_in(pattern):
        raise UsageError(f"{pattern!r} {mistake}", "correct it, or leave out --regex for a pattern like build.*")
    search = re.compile(pattern).search
    return lambda key: search(key) is not None


def is_pattern(text: str) -> bool:
    return any(letter in GLOB for letter in text)
