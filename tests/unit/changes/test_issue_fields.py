"""The fields of issues on both sides: which value goes where, and texts that would do harm."""

from __future__ import annotations

from typing import Any

import pytest

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
from coordination.errors import UsageError
from coordination.forges.models import ForgeIssue
from coordination.models import Issue, IssueStatus


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
