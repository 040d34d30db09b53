"""The section of a pull request's text that coord keeps current, between markers. Pure.

Above and below it people write what they like. Titles of the file go in as code, so that none of them
mentions a person, closes an issue of the forge, or draws a picture from somewhere else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from coordination.terminal import spelled
from coordination.text import shortened

BEGIN = "<!-- coord: this section is kept by coord; write above or below it -->"
END = "<!-- coord: end -->"
_SECTION = re.compile(rf"{re.escape(BEGIN)}(?:(?!{re.escape(BEGIN)}).)*?{re.escape(END)}", re.DOTALL)
"""The innermost pair: where somebody has deleted a marker, the text between stays."""
MOST_LISTED = 50
LONGEST_TITLE = 200


@dataclass(frozen=True, kw_only=True)
class SetMember:
    """A repository of the change set, as the section of each request shows it."""

    repo: str
    name: str = ""
    """`owner/repo#7`; empty where it has no request yet."""
    url: str = ""
    state: str = ""


@dataclass(frozen=True, kw_only=True)
class SectionFacts:
    plan: str
    title: str
    issues: Sequence[tuple[str, str]]
    todos: Sequence[tuple[str, str]]
    """Id and task of those that this request has."""
    after: Sequence[SetMember]
    """Requests that merge before this one."""
    members: Sequence[SetMember]


def title_of(text: str) -> str:
    """Return the title of a request: one line, bounded."""
    return shortened(spelled(" ".join(text.split())), LONGEST_TITLE) or "changes"


def section_of(facts: SectionFacts) -> str:
    """Return the section with its markers."""
    lines = [BEGIN, "", f"Plan {_code(facts.plan)}: {_code(facts.title)}"]
    for member in facts.after:
        lines += ["", f"Depends on {_link(member)}" if member.url else f"Depends on {_code(member.repo)}"]
    lines += _list("Issues", facts.issues) + _list("Todos", facts.todos)
    if len(facts.members) > 1:
        lines += ["", "| repository | pull request | state |", "|---|---|---|"]
        lines += [
            f"| {_code(member.repo)} | {_link(member) if member.url else '-'} | {member.state or '-'} |"
            for member in facts.members
        ]
    return "\n".join([*lines, "", END])


def with_section(text: str, section: str) -> str:
    """Return the text with this section in place of the one it has, else at its end."""
    found = list(_SECTION.finditer(text))
    if not found:
        return f"{text.rstrip()}\n\n{section}".lstrip()
    first = found[0]
    after = _SECTION.sub("", text[first.end() :])
    return f"{text[: first.start()]}{section}{after}".strip()


def with_text(body: str, text: str) -> str:
    """Return the body with another text above its section."""
    found = _SECTION.search(body)
    return f"{text.strip()}\n\n{found[0]}" if found else text.strip()


def _list(heading: str, items: Sequence[tuple[str, str]]) -> list[str]:
    if not items:
        return []
    rows = [f"- {_code(name)} {_code(title)}" for name, title in items[:MOST_LISTED]]
    more = len(items) - MOST_LISTED
    return ["", f"{heading}:", "", *rows, *([f"- and {more} more"] if more > 0 else [])]


def _code(text: str) -> str:
    """Return the text as code on one line. A word joiner behind `@`, `#` and `!` keeps forges from reading
    names and numbers even there.
    """
    plain = shortened(spelled(" ".join(text.split())).replace("`", "'"), LONGEST_TITLE)
    safe = re.sub(r"([@#!])", "\\1\u2060", plain).replace("|", "\\|").replace("<!--", "< !--")
    return f"`{safe or ' '}`"


def _link(member: SetMember) -> str:
    return member.name or member.url
