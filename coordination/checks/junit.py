"""Write the results of checks as JUnit XML, for tools that show such files."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, tostring

from coordination.checks.report import CheckView, QaReport
from coordination.errors import UsageError
from coordination.files import replace_file
from coordination.runs.change_sets.check_results import CheckVerdict

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(report: QaReport, file: Path) -> None:
    """Replace the file by the report. Raises UsageError where it cannot be written."""
    try:
        replace_file(file, junit(report), durable=False)
    except OSError as error:
        raise UsageError(
            f"{file} cannot be written: {error.strerror}", "give --junit a path that you may write"
        ) from error


def junit(report: QaReport) -> bytes:
    """Return the report: a suite for each check, with its failed tests. A check that has no report of its
    own, or did not run, is a test itself.
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
