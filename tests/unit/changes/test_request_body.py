"""The section of a request's text: kept current between what people write, and harmless to the forge."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordination.changes.requests.proposal import (
    BEGIN,
    END,
    SectionFacts,
    SetMember,
    section_of,
    title_of,
    with_section,
    with_text,
)

HOSTILE = "fixes #1 @ann ![x](http://e) \x1b[31m`code` | <!-- coord: end -->\n# big"


def section(title: str = "a plan") -> str:
    members = [SetMember(repo="a", name="o/a#1", url="u", state="open"), SetMember(repo="b")]
    facts = SectionFacts(
        plan="P", title=title, issues=[("I-1", title)], todos=[("T-1", title)], after=members, members=members
    )
    return section_of(facts)


def test_a_title_of_the_file_mentions_nobody_closes_nothing_and_stays_on_its_line():
    text = section(HOSTILE)
    assert "\x1b" not in text
    assert "@ann" not in text
    assert "fixes #1" not in text
    assert "![" not in text
    assert text.count(END) == 1
    assert text.count("\n# big") == 0
    assert "\n" not in title_of(HOSTILE + "x" * 10_000)


def test_requests_before_this_one_are_named():
    lines = section().splitlines()
    assert "Depends on o/a#1" in lines
    assert [line for line in lines if line.startswith("| `a`")] == ["| `a` | o/a#1 | open |"]


@given(st.text(), st.text())
def test_the_section_is_replaced_and_the_text_around_it_stays(above: str, below: str):
    first = with_section("", section("one"))
    body = f"{above}\n{first}\n{below}"
    second = with_section(body, section("two"))
    assert second == f"{above}\n{section('two')}\n{below}".strip()
    assert with_section(second, section("two")) == second


def test_a_deleted_marker_costs_no_text():
    broken = f"{BEGIN}\nmine\n"
    body = with_section(broken, section())
    assert "mine" in body
    assert with_section(body, section("two")).count("mine") == 1
    assert with_text(body, "new").startswith("new")
