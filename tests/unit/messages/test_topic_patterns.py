"""Patterns of topics, against a definition that is written another way."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordination.errors import UsageError
from coordination.messages.topics import Patterns, fits, pattern, topic

WORDS = st.sampled_from(["a", "b", "vbia_events"])
TOPICS = st.lists(WORDS, min_size=1, max_size=4).map(".".join)
PATTERNS = st.builds(
    lambda first, last: ".".join([*first, last]),
    st.lists(WORDS | st.just("*"), max_size=3),
    WORDS | st.sampled_from(["*", "**"]),
)


def as_expression(wanted: str) -> str:
    return re.escape(wanted).replace(r"\*\*", ".+").replace(r"\*", "[^.]+")


@given(st.lists(PATTERNS, max_size=8), TOPICS)
def test_a_topic_finds_exactly_the_patterns_that_fit_it(wanted: list[str], name: str) -> None:
    tree, expected = Patterns[str](), {one for one in wanted if re.fullmatch(as_expression(one), name)}
    for one in wanted:
        tree.add(pattern(one), one)

    assert set(tree.of(topic(name))) == expected
    assert {one for one in wanted if fits(one, name)} == expected
    for one in wanted:
        tree.remove(one, one)
    assert tree == Patterns()


@pytest.mark.parametrize(
    "wrong", ["", "a..b", ".a", "a*", "a.**.b", "***", "a b", "a\n", "x" * 201, "a." * 8 + "a"]
)
def test_what_is_no_pattern_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError):
        pattern(wrong)
    with pytest.raises(UsageError):
        topic(wrong or "*")
