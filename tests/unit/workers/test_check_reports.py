"""Reports of quality checks, which are foreign input: the tests that they count, and their refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordination.models import QaAction
from coordination.runs.change_sets.records import CheckResult, CheckVerdict, FailedTest, read_result
from workers.attempt.checks import LARGEST, ReportUnreadable, is_known, judge, read_report, stamps
from workers.process.child import Exit

MIXED = """<?xml version="1.0"?>
<testsuites tests="900"><testsuite failures="0">
<testcase classname="m" name="good"/>
<testcase classname="m" name="bad"><failure message="1 &lt; 2\n\x09boom">trace</failure></testcase>
<testcase classname="m" name="worse"><error/></testcase>
<testcase name="left"><skipped/></testcase>
<testcase name="both"><skipped/><failure/></testcase>
</testsuite></testsuites>"""


def ended(code: int | None = 0, reason: str = "exited", signal: int | None = None) -> Exit:
    return Exit(exit_code=code, signal=signal, reason=reason, duration_s=0.5)


def test_a_report_counts_its_tests_and_not_its_attributes(tmp_path: Path):
    (tmp_path / "r.xml").write_text(MIXED)

    report = read_report(tmp_path, "*.xml", {})

    assert (report.total, report.passed, report.failed, report.errors, report.skipped) == (5, 1, 2, 1, 1)
    assert [one.name for one in report.failures] == ["m.bad", "m.worse", "both"]
    assert report.failures[0].message == "1 < 2 boom"


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><testsuite><testcase name="&b;"/></testsuite>'
UNREADABLE = {
    "entities": BOMB,
    "an outside file": '<!DOCTYPE x SYSTEM "file:///etc/passwd"><testsuite/>',
    "no XML": "3 passed",
    "nothing": "",
    "cut off": "<testsuite><testcase name='a'>",
    "another root": "<html/>",
    "too deep": "<testsuite>" * 60 + "</testsuite>" * 60,
    "a strange encoding": "<?xml version='1.0' encoding='x-unknown'?><testsuite/>",
}


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE)
def test_a_report_that_is_no_plain_junit_is_refused(text: str, tmp_path: Path):
    (tmp_path / "r.xml").write_text(text)

    with pytest.raises(ReportUnreadable):
        read_report(tmp_path, "r.xml", {})


def test_a_report_that_is_too_large_is_refused_before_it_is_read_whole(tmp_path: Path):
    with (tmp_path / "r.xml").open("wb") as file:
        file.write(b"<testsuite>")
        file.truncate(LARGEST * 4)

    with pytest.raises(ReportUnreadable):
        read_report(tmp_path, "r.xml", {})


def test_a_report_leads_to_no_other_place_and_an_old_one_counts_as_none(tmp_path: Path):
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root, outside):
        folder.mkdir()
        (folder / "r.xml").write_text("<testsuite><testcase name='a'/></testsuite>")
    (root / "link.xml").symlink_to(outside / "r.xml")
    (root / "folder").symlink_to(outside)

    for pattern in ("link.xml", "folder/r.xml", "missing.xml"):
        with pytest.raises(ReportUnreadable):
            read_report(root, pattern, {})
    with pytest.raises(ReportUnreadable, match="older"):
        read_report(root, "r.xml", stamps(root, "r.xml"))


GREEN, RED, NOT_RUN = CheckVerdict.GREEN, CheckVerdict.RED, CheckVerdict.COULD_NOT_RUN
GOOD = "<testsuite><testcase name='a'/></testsuite>"
VERDICTS = {
    "all well": (ended(), GOOD, GREEN),
    "without a report": (ended(), None, GREEN),
    "a failed command": (ended(1), None, RED),
    "a failed test, exit code 0": (ended(), MIXED, RED),
    "a failed command, no failed test": (ended(3), GOOD, RED),
    "no tests": (ended(), "<testsuite/>", RED),
    "only skipped tests": (
        ended(),
        "<testsuite><testcase name='a'><skipped/></testcase></testsuite>",
        RED,
    ),
    "no such command": (ended(127), None, NOT_RUN),
    "killed": (ended(None, signal=9), None, NOT_RUN),
    "killed behind a good report": (ended(None, signal=9), GOOD, NOT_RUN),
    "an unreadable report": (ended(), "x", NOT_RUN),
    "a timeout": (ended(None, "timeout"), GOOD, CheckVerdict.TIMED_OUT),
}


@pytest.mark.parametrize(("end", "text", "verdict"), VERDICTS.values(), ids=VERDICTS)
def test_the_verdict_follows_from_the_end_and_the_report(
    end: Exit, text: str | None, verdict: CheckVerdict, tmp_path: Path
):
    report = None
    if text is not None:
        (tmp_path / "r.xml").write_text(text)
        try:
            report = read_report(tmp_path, "r.xml", {})
        except ReportUnreadable as unreadable:
            report = unreadable

    result = judge(QaAction(type="qa", run="x"), end, "its end", report, "0" * 40)

    assert result.verdict is verdict
    assert (result.why == "") is (verdict is GREEN)
    assert read_result(result.written()) == result


def test_red_is_known_only_if_nothing_else_failed_before():
    def red(*names: str, total: int | None = 9) -> CheckResult:
        return CheckResult(verdict=RED, total=total, failures=tuple(FailedTest(name=n) for n in names))

    assert is_known(red("a"), red("a", "b"))
    assert is_known(red(total=None), red(total=None))
    assert not is_known(red("a", "c"), red("a", "b"))
    assert not is_known(red("a"), CheckResult(verdict=GREEN, total=9))
    assert not is_known(red("a"), red(total=None))
    assert not is_known(red("a").model_copy(update={"unnamed": 1}), red("a"))
    assert not is_known(CheckResult(verdict=NOT_RUN), red("a"))


@pytest.mark.parametrize("hostile", [None, "", "[]", "{", '{"verdict": "blue"}', "[" * 10**5, {"x": 1}, 7])
def test_a_text_that_is_no_result_reads_as_none(hostile: object):
    assert read_result(hostile) is None
