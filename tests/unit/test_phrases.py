"""Numbers with their nouns, and words of commands."""

import shlex
from pathlib import Path

import pytest

from coordination.text import counted, quoted


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (267, "day", "267 days"),
        (1, "day", "1 day"),
        (2, "repository", "2 repositories"),
        (2, "queue entry", "2 queue entries"),
        (3, "branch", "3 branches"),
        (0, "todo", "0 todos"),
        (1200, "key", "1,200 keys"),
    ],
)
def test_a_number_has_its_noun_in_the_right_form(number: int, noun: str, words: str) -> None:
    assert counted(number, noun) == words


def test_a_shell_reads_each_quoted_word_as_it_was() -> None:
    words = [Path("/srv/my code"), "it's", "$(reboot)", "a;b", "plain"]

    assert shlex.split(quoted(*words)) == [str(word) for word in words]
    assert quoted("plain") == "plain"
