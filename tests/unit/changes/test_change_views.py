"""The views of change sets, the text of their requests and the fields of their issues."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordination.changes.issues.rules import (
    Side,
    changes_at_forge,
    decide,
    digest,
    fields_of_file,
    marker_of,
    new_issue,
    values_of_file,
    values_of_forge,
)
from coordination.changes.requests.proposal import (
    BEGIN,
    END,
    SectionContent,
    SetMember,
    section_of,
    title_of,
    with_section,
    with_text,
)
from coordination.changes.view import ChangeWait, LiveRun, PlanFacts, view_of, wait_of
from coordination.errors import UsageError
from coordination.forges.models import ForgeIssue
from coordination.models import Issue, IssueStatus, Todo, criteria_in_words
from coordination.runs.change_sets.records import (
    Landed,
    RecordedCheck,
    RepoChange,
    RequestRef,
    Reverted,
    SeenRequest,
)

LIVE = LiveRun(run="R2", does="works on it")
ASKS = LiveRun(run="R2", does="lands it", asks="P.locks")
TODOS = ("A", "B", "C", "D", "E")


@pytest.mark.parametrize(
    ("facts", "reason", "named"),
    [
        (PlanFacts(), ChangeWait.ORDER, "coord land P"),
        (PlanFacts(open=TODOS), ChangeWait.TODOS, "A, B, C and 2 more: coord sweep P"),
        (PlanFacts(open=TODOS[:1], failed_run="R1"), ChangeWait.TODOS, "coord retry R1"),
        (PlanFacts(failed_run="R1"), ChangeWait.ORDER, "coord land P"),
        (PlanFacts(declared=False, open=TODOS), ChangeWait.PLAN, "P"),
        (PlanFacts(unreverted="R1", open=TODOS), ChangeWait.REVERT, "coord show-run R1"),
        (PlanFacts(live=LIVE, unreverted="R1"), ChangeWait.RUN, "coord watch R2"),
        (PlanFacts(live=ASKS, open=TODOS), ChangeWait.PERSON, "coord approve P.locks"),
    ],
)
def test_a_change_set_says_what_it_waits_for(facts, reason, named):
    told = wait_of("P", (), facts)
    assert told[0] is reason
    assert named in told[1]


@pytest.mark.parametrize(
    ("seen", "reason", "named"),
    [
        ({}, ChangeWait.ORDER, "coord land P"),
        ({"state": "merged"}, ChangeWait.REQUEST, "merged: coord land P"),
        ({"state": "closed"}, ChangeWait.REQUEST, "--reopen"),
        ({"state": "draft"}, ChangeWait.REQUEST, "--ready"),
        ({"red": ("ci/test",)}, ChangeWait.REQUEST, "ci/test"),
        ({"refused_by": ("bob",)}, ChangeWait.REQUEST, "bob"),
        ({"red": ("ci/test",), "head": "older"}, ChangeWait.ORDER, "coord land P"),
    ],
)
def test_a_change_whose_request_is_not_ready_is_not_ready_to_land(seen, reason, named):
    found = SeenRequest.model_validate({"state": "open", "head": "tip", "at": "now", **seen})
    request = RequestRef(
        number=1, url="https://f/1", name="o/r#1", head="tip", by="ann", at="now", seen=found
    )
    change = RepoChange(repo="r", branch="coord/P", tip="tip", run="R", request=request)
    view = view_of("P", change, PlanFacts())
    assert view.wait_reason is reason
    assert named in (view.waits_for or "")
    reverted = Reverted(commit="c", by="d", via="pr", at="now", run="R")
    assert view_of("P", change.model_copy(update={"reverted": reverted}), PlanFacts()).wait_reason == "order"


def test_what_has_landed_waits_for_nothing():
    landed = Landed(commit="c" * 40, tree_before="d" * 40, method="merge", via="push", at="x", run="R9")
    change = RepoChange(repo="lib", branch="coord/P", tip="a" * 40, run="R1", landed=landed)
    view = view_of("P", change, PlanFacts(open=TODOS))
    assert (view.landed, view.wait_reason, view.waits_for) == (landed, None, None)


def test_a_check_counts_for_the_tip_and_is_no_todo_of_the_change_set():
    def recorded(name: str, verdict: str, tip: str = "a") -> RecordedCheck:
        return RecordedCheck(name=name, verdict=verdict, tip=tip * 40, run="R1")

    checks = (recorded("unit", "green"), recorded("e2e", "red"), recorded("old", "red", "b"))
    todos = ("T", "P.qa.lib.unit", "T.accept.1", "P.qa.mine")
    change = RepoChange(repo="lib", branch="coord/P", tip="a" * 40, run="R1", checks=checks, todos=todos)

    view = view_of("P", change, PlanFacts(declared_todos={"T", "P.qa.mine"}))

    assert [one.verdict for one in view.checks] == ["green", "red", "stale"]
    assert (view.wait_reason, view.todos) == (ChangeWait.CHECKS, ("T", "P.qa.mine"))
    assert "e2e" in (view.waits_for or "")
    assert "old" not in (view.waits_for or "")


HOSTILE = "fixes #1 @ann ![x](http://e) \x1b[31m`code` | <!-- coord: end -->\n# big"


def section(title: str = "a plan") -> str:
    members = [SetMember(repo="a", name="o/a#1", url="u", state="open"), SetMember(repo="b")]
    facts = SectionContent(
        plan="P",
        title=title,
        issues=[("I-1", title)],
        todos=[("T-1", title)],
        criteria=[("T-1", title)],
        agents=[("claude", title)],
        after=members,
        members=members,
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


def test_a_section_of_a_large_change_set_names_the_neighbours_and_counts_the_rest():
    members = [
        SetMember(repo=f"r{n:03}", name=f"o/r{n:03}#{n}", url="u", state="open" if n else "merged")
        for n in range(800)
    ]
    near = ("r001", "r000", "r002")
    facts = SectionContent(
        plan="P",
        title="a plan",
        issues=[],
        todos=[],
        criteria=[],
        agents=[],
        after=members[:700],
        members=members,
        near=near,
    )
    text = section_of(facts)
    assert len(text) < 5_000
    assert [one for one in near if f"| `{one}` | o/{one}#" not in text] == []
    assert "| `r003` |" not in text
    assert "799 open" in text
    assert "1 merged" in text
    assert "Depends on 650 more" in text


def test_criteria_that_no_command_checks_are_for_the_reviewer():
    todo = Todo.model_validate(
        {
            "id": "T-1",
            "task": "x",
            "repo": "a",
            "acceptance_criteria": ["it is clear", {"text": "it is there", "check": "test -e x"}],
        }
    )

    assert criteria_in_words([todo]) == (("T-1", "it is clear"),)
    _, _, after = section("each option has a text").partition("For the reviewer to judge:")
    assert "- `T-1` `each option has a text`" in after


def test_the_agents_of_a_request_are_named_with_what_they_have_used():
    _, _, after = section("3 rounds, 14 turns").partition("Agents:")
    assert after.strip().splitlines()[0] == "- `claude` `3 rounds, 14 turns`"


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


def theirs(base: dict[str, str] | None = None, *, mine: Any = None, priorities: bool = False, **fields: Any):
    found = ForgeIssue(**{"number": 7, "url": "u", "title": "t", "body": "", "is_open": True, **fields})
    values = values_of_forge(found, mine or {"assignee": ()}, base or {}, priorities=priorities)
    return found, values


def test_a_field_goes_to_the_side_that_has_not_changed_it():
    base = {
        name: digest(value) for name, value in {"title": "t", "description": "d", "status": "open"}.items()
    }
    mine = {"title": "new", "description": "d", "status": "closed"}
    others = {"title": "t", "description": "theirs", "status": "closed"}
    decision = decide(mine, others, base, Side.FILE)
    assert (decision.to_forge, decision.to_file) == ({"title": "new"}, {"description": "theirs"})
    assert decision.equal == {"status": "closed"}
    assert not decision.conflicts
    assert decision.agreed == {
        "title": digest("new"), "description": digest("theirs"), "status": digest("closed"),
    }  # fmt: skip


@pytest.mark.parametrize("prefer", list(Side))
def test_a_field_that_both_have_changed_is_a_conflict_with_both_values(prefer: Side):
    decision = decide({"labels": ("a", "b")}, {"labels": ("c",)}, {"labels": digest(("a",))}, prefer)
    (conflict,) = decision.conflicts
    assert (conflict.file, conflict.forge, conflict.kept) == ("a, b", "c", prefer)
    won = decision.to_forge if prefer is Side.FILE else decision.to_file
    assert won == {"labels": ("a", "b") if prefer is Side.FILE else ("c",)}


def test_labels_and_people_are_compared_in_any_order_and_case():
    mine = values_of_file(Issue(id="I", title="t", labels=("Bug", "a"), assignee="Ann"), priorities=False)
    _, others = theirs(mine=mine, labels=("A", "bug"), assignees=("bob", "ann"))
    assert set(decide(mine, others, {}, Side.FILE).equal) == set(mine)


def test_the_other_assignees_stay_when_the_file_names_another_person():
    mine = values_of_file(Issue(id="I", title="t", assignee="bob"), priorities=False)
    found, others = theirs({"assignee": digest(("ann",))}, mine=mine, assignees=("carl", "ann"))
    decision = decide(mine, others, {"assignee": digest(("ann",))}, Side.FILE)
    assert changes_at_forge(decision, found, others).assignees == ("bob", "carl")
    none = decide(mine | {"assignee": ()}, others, {"assignee": digest(("ann",))}, Side.FILE)
    assert changes_at_forge(none, found, others).assignees == ()


def test_priorities_are_labels_where_the_repository_has_them():
    mine = values_of_file(Issue(id="I", title="t", priority="high", labels=("a",)), priorities=True)
    assert new_issue(mine, "").labels == ("a", "priority:high")
    found, others = theirs(mine=mine, priorities=True, labels=("a", "Priority:Low", "priority:medium"))
    assert (others["labels"], others["priority"]) == (("a",), "low")
    decision = decide(mine, others, {"priority": digest("low")}, Side.FILE)
    assert changes_at_forge(decision, found, others).labels == ("a", "priority:high")
    assert theirs(labels=("priority:low",))[1]["labels"] == ("priority:low",)


def test_texts_of_a_forge_are_cleaned_before_the_file_gets_them():
    body = "a\x1b[2J\x00\r\nb\ud800\u202e: - {x: &y}\n\n<!-- coord: issue 0123456789abcdef -->"
    found, others = theirs(title="one\n two\x1b]0;x\x07", body=body, labels=("l\x1b", "\x00"))
    assert others["title"] == "one two]0;x"
    assert others["description"] == "a[2J\nb: - {x: &y}"
    assert others["labels"] == ("l",)
    assert marker_of(found.body) == "0123456789abcdef"
    assert theirs(title="\x00")[1]["title"] == "(no title)"


def test_the_marker_stays_in_the_text_of_the_forge_and_is_never_in_the_file():
    found, others = theirs(body="old\n\n<!-- coord: issue 0123456789abcdef -->")
    mine = values_of_file(Issue(id="I", title="t", description="new"), priorities=False)
    body = changes_at_forge(decide(mine, others, {}, Side.FILE), found, others).body
    assert body == "new\n\n<!-- coord: issue 0123456789abcdef -->"


def test_a_text_that_is_too_long_for_the_file_is_refused_not_cut():
    with pytest.raises(UsageError):
        fields_of_file({"description": "x" * 1_000_000})
    assert fields_of_file({"status": "open", "assignee": ()}) == {
        "status": IssueStatus.PENDING,
        "assignee": None,
    }
