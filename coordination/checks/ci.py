"""Write the results of checks for other tools: as JUnit XML, as the summary and annotations of a CI job.

Names of tests and their messages are text of the repositories: none of it may end a table, mention a person,
or be a command to the runner (`::error …` on a line of its own is one).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

from coordination.checks.report import CheckView, QaReport, checks_in_words
from coordination.errors import UsageError
from coordination.files import replace_file
from coordination.runs.change_sets.records import CheckVerdict
from coordination.terminal import spelled
from coordination.text import shortened

MOST_ANNOTATIONS = 10
"""GitHub shows ten errors of a step."""
LONGEST_SUMMARY = 900_000
"""Bytes; GitHub accepts 1 MiB from all steps of a job, and rejects a larger summary as a whole."""
LONGEST_TEXT = 300
_PLACE = re.compile(r"(?P<file>[\w.@+-]+(?:/[\w.@+-]+)*\.\w{1,8})(?::(?::|(?P<line>\d{1,7})))")
"""`tests/test_a.py:12` or `tests/test_a.py::test_b` in the name or the message of a test."""


@dataclass(frozen=True, kw_only=True)
class CiJob:
    """The CI job of this process, by its environment."""

    github: bool = False
    """GitHub Actions, or a runner that understands its commands (Gitea, act)."""
    gitlab: bool = False
    summary: Path | None = None
    """File to which the summary of the step is appended for GitHub's runner."""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> CiJob:
        summary = environ.get("GITHUB_STEP_SUMMARY")
        return cls(
            github=environ.get("GITHUB_ACTIONS") == "true",
            gitlab=environ.get("GITLAB_CI") == "true",
            summary=Path(summary) if summary else None,
        )


def summary_of(report: QaReport) -> str:
    """Return the report as Markdown, bounded."""
    size, kept = 0, list[str]()
    for line in _summary(report):
        size += len(line.encode()) + 1
        if size > LONGEST_SUMMARY:
            kept += ["", "Cut off here; the log of the job has the rest."]
            break
        kept.append(line)
    return "\n".join([*kept, ""])


def _summary(report: QaReport) -> Iterator[str]:
    yield from (
        f"### Quality checks: {report.verdict}",
        "",
        checks_in_words(report.totals),
        "",
        "| repository | check | verdict | tests | failed | seconds |",
        "|---|---|---|---|---|---|",
    )
    for check in report.checks:
        bad = None if check.failed is None else check.failed + (check.errors or 0)
        numbers = ("-" if number is None else f"{number:,}" for number in (check.total, bad))
        seconds = "-" if check.duration_s is None else f"{check.duration_s:.1f}"
        name = _code(check.check or check.todo)
        yield f"| {_code(check.repo)} | {name} | {check.verdict} | {' | '.join(numbers)} | {seconds} |"
    for check in _bad(report):
        yield from ("", f"**{_code(check.repo)} {_code(check.check or check.todo)}**: {_code(check.why)}", "")
        yield from (f"- {_code(one.name)} {_code(one.message)}".rstrip() for one in check.failures)
        if check.unnamed:
            yield f"- and {check.unnamed:,} more"
        if check.output:
            yield from ("", "The end of its output:", "", *(f"- {_code(line)}" for line in check.output))
    if report.unchecked:
        yield from ("", f"Without a check: {', '.join(map(_code, report.unchecked))}")


def annotations_of(report: QaReport, places: Mapping[str, str]) -> Iterator[str]:
    """Yield commands that annotate the job. `places`: repository → its folder below the job's, or empty."""
    found = [
        (check, f"{one.name}: {one.message}" if one.message else one.name)
        for check in _bad(report)
        for one in check.failures
    ]
    found += [(check, "\n".join((check.why, *check.output))) for check in _bad(report) if not check.failures]
    for check, words in found[:MOST_ANNOTATIONS]:
        title = f"{check.repo} {check.check or check.todo}: {check.verdict}"
        fields = {**_place(words, places.get(check.repo, "")), "title": title}
        escaped = ",".join(f"{name}={_escaped(value, field=True)}" for name, value in fields.items())
        lines = "\n".join(shortened(line, LONGEST_TEXT) for line in words.splitlines())
        yield f"::error {escaped}::{_escaped(lines)}"
    if (more := len(found) - MOST_ANNOTATIONS) > 0:
        yield f"::warning title=coord::{more:,} more failures: see the summary of the job"


def _bad(report: QaReport) -> Iterator[CheckView]:
    return (check for check in report.checks if check.verdict is not CheckVerdict.GREEN)


def _place(words: str, folder: str) -> dict[str, str]:
    """Return the file, and the line, that the words of a failure name."""
    match = _PLACE.search(words)
    if match is None or ".." in match["file"].split("/"):
        return {}
    line = {"line": match["line"]} if match["line"] else {}
    return {"file": f"{folder}/{match['file']}" if folder else match["file"], **line}


def _escaped(words: str, *, field: bool = False) -> str:
    """Return a text on one line, escaped for the runner."""
    escaped = spelled(words).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return escaped.replace(":", "%3A").replace(",", "%2C") if field else escaped


def _code(text: str) -> str:
    plain = shortened(spelled(" ".join(text.split())).replace("`", "'"), LONGEST_TEXT)
    return f"`{plain.replace('|', chr(92) + '|')}`" if plain else ""


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(report: QaReport, file: Path) -> None:
    """Replace the file by the report. Raises UsageError where it cannot be written."""
    try:
        replace_file(file, junit(report), durable=False)
    except OSError as error:
        raise UsageError(
            f"{file} cannot be written: {error.strerror}", "give --junit a path that you can write to"
        ) from error


def junit(report: QaReport) -> bytes:
    """Return the report: a suite for each check, with its failed tests. A check without a report, or one that
    did not run, counts as a test itself.
    """
    root = Element("testsuites", name=_text(report.plan_id), time=f"{report.totals.duration_s:.3f}")
    for check in report.checks:
        _suite(root, check)
    text: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _suite(root: Element, check: CheckView) -> None:
    tag = _tag(check.verdict)
    itself = check.total is None or (tag and not check.failures)
    own = {tag: 1} if itself else {}
    numbers = {
        "tests": (check.total or 0) + bool(itself),
        "failures": (check.failed or 0) + own.get("failure", 0),
        "errors": (check.errors or 0) + own.get("error", 0),
        "skipped": (check.skipped or 0) + own.get("skipped", 0),
    }
    name = check.check or check.todo
    attributes = {word: str(number) for word, number in numbers.items()}
    attributes |= {"name": _text(f"{check.repo}.{name}"), "time": f"{check.duration_s or 0:.3f}"}
    suite = SubElement(root, "testsuite", attributes)
    for failure in check.failures:
        case = SubElement(suite, "testcase", name=_text(failure.name), classname=_text(check.repo))
        SubElement(case, "failure", message=_text(failure.message))
    if itself:
        case = SubElement(suite, "testcase", name=_text(name), classname=_text(check.repo))
        if tag:
            SubElement(case, tag, message=_text(f"{check.verdict}: {check.why}"))


def _tag(verdict: CheckVerdict) -> str:
    """Return the element for a check that is not green; empty for a green one."""
    if verdict is CheckVerdict.GREEN:
        return ""
    if verdict in (CheckVerdict.SKIPPED, CheckVerdict.WAITING):
        return "skipped"
    return "failure" if verdict is CheckVerdict.RED else "error"


def _text(text: str) -> str:
    """Return the text without the characters that XML cannot have."""
    return _NOT_XML.sub("�", text)
