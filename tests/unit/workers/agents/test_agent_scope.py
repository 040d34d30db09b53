"""The paths that an agent may change: patterns, against a simple model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from coordination.models import AgentAction
from workers.agents.scope import outside

NAMED = st.sampled_from(["a", "b", "ab", "a.py", "[", "]"])
PATHS = st.lists(NAMED, min_size=1, max_size=4).map("/".join)
PARTS = st.lists(
    st.sampled_from(["a", "b", "*", "?", "**", "[ab]", "[!a]", ".py"]), min_size=1, max_size=2
).map("".join)
PATTERNS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


def matches(path: str, pattern: str) -> bool:
    """Try each way in which a pattern may match a path, a folder, or what is below it."""
    if not pattern:
        return not path or path[0] == "/"
    if pattern.startswith("**/"):
        rest = pattern[3:]
        return any(matches(path[i:], rest) for i in range(len(path) + 1) if i == 0 or path[i - 1] == "/")
    if pattern.startswith("**"):
        return any(matches(path[i:], pattern[2:]) for i in range(len(path) + 1))
    if pattern[0] == "*":
        end = path.find("/") if "/" in path else len(path)
        return any(matches(path[i:], pattern[1:]) for i in range(end + 1))
    if not path:
        return False
    if pattern.startswith(("[ab]", "[!a]")):
        fits = path[0] in "ab" if pattern[1] == "a" else path[0] not in "a/"
        return fits and matches(path[1:], pattern[4:])
    fits = path[0] != "/" if pattern[0] == "?" else path[0] == pattern[0]
    return fits and matches(path[1:], pattern[1:])


@given(st.lists(PATHS), st.lists(PATTERNS, max_size=3), st.lists(PATTERNS, max_size=2))
def test_paths_are_within_patterns_as_in_the_model(
    paths: list[str], allowed: list[str], forbidden: list[str]
):
    found = outside(paths, [*allowed, *(f"!{pattern}" for pattern in forbidden)])

    is_allowed = [not allowed or any(matches(path, one) for one in allowed) for path in paths]
    is_forbidden = [any(matches(path, one) for one in forbidden) for path in paths]
    pairs = zip(paths, is_allowed, is_forbidden, strict=True)
    assert found == [path for path, may, may_not in pairs if may_not or not may]


@pytest.mark.parametrize(
    ("patterns", "path", "is_outside"),
    [
        ((), "a", False),
        (("src",), "src/a/b", False),
        (("src/",), "src/a", False),
        (("./src",), "src", False),
        (("src",), "srcs/a", True),
        (("src/*.py",), "src/a/b.py", True),
        (("**/*.py",), "b.py", False),
        (("!tests",), "tests/a", True),
        (("!tests",), "a", False),
        (("**", "!.github/**"), ".github/workflows/ci.yml", True),
        (("[",), "[", False),
        (("a+(b",), "a+(b", False),
        (("[z-a]",), "[z-a]", False),
        (("[^]",), "^", False),
        (("a[+-:]b",), "a/b", True),
    ],
)
def test_patterns_of_paths(patterns: tuple[str, ...], path: str, is_outside: bool):
    assert outside([path], patterns) == ([path] if is_outside else [])


@pytest.mark.parametrize("pattern", ["[z-a]", "src/[!9-0]*", "![b-a]"])
def test_a_range_that_runs_backwards_is_not_ordered(pattern: str):
    with pytest.raises(ValidationError, match="matches nothing"):
        AgentAction(type="agent", paths=(pattern,))


@pytest.mark.parametrize("pattern", ["[a-z]", "[-a]", "[a-]", "[z-z]", "a-[!0-9_]"])
def test_a_range_that_runs_forwards_is_ordered(pattern: str):
    assert AgentAction(type="agent", paths=(pattern,)).paths == (pattern,)
