"""`coord qa ci` in the environment of a CI job: it checks the checkouts, and speaks to the runner."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from coordination.checks.ci import LONGEST_SUMMARY, annotations_of, summary_of
from coordination.checks.report import CheckView, QaReport, Totals
from coordination.runs.change_sets.records import CheckVerdict, FailedTest
from tests.forge.tools import ACT
from tests.testbed import COORD, Testbed, git

FAILED = (
    "<testcase name='tests/test_a.py::test_b'><failure message='::set-output name=x::y | a.py:7'/></testcase>"
)
SUITE = f"<testsuite>{FAILED}</testsuite>"
REPOS = {
    "lib": {"qa": {"name": "unit", "run": 'echo "$SUITE" > r.xml; grep -q new format', "report": "*.xml"}},
    "tool": {"qa": "echo ::error::from the check; true"},
    "elsewhere": {"qa": "true"},
}


def test_a_job_checks_what_is_checked_out_and_speaks_to_its_runner(testbed: Testbed):
    testbed.env = {"SUITE": SUITE}
    testbed.write(repos=REPOS)
    (testbed.folder / "elsewhere").rename(testbed.folder / "not-cloned")
    lib = testbed.folder / "lib"
    git(lib, "checkout", "-q", "--detach")
    (lib / "format").write_text("new\n")
    git(lib, "add", "format")
    git(lib, "commit", "-q", "-m", "on no branch")
    summary = testbed.folder / "summary.md"
    summary.write_text("before\n")
    job = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_WORKSPACE": str(testbed.folder),
        "GITHUB_STEP_SUMMARY": str(summary),
    }

    red = testbed.coord("qa", "ci", "--json", **job)

    assert red.code == 3
    checks = {check["repo"]: check for check in red.json["checks"]}
    assert {name: check["verdict"] for name, check in checks.items()} == {"lib": "red", "tool": "green"}
    assert checks["lib"]["commit"] == git(lib, "rev-parse", "HEAD")
    lines = red.err.splitlines()
    (stop,) = (line for line in lines if line.startswith("::stop-commands::"))
    resumed = lines.index(f"::{stop.rpartition('::')[2]}::")
    commands = [line for line in lines if line.startswith("::") and line is not stop]
    assert commands[1].startswith("::error file=lib/tests/test_a.py,")
    assert lines.index(commands[1]) > resumed
    assert len(commands) == 2
    assert summary.read_text().startswith("before\n### Quality checks: red")

    gitlab = testbed.coord("qa", "ci", "--repo", "tool", GITLAB_CI="true")
    assert gitlab.code == 0
    suites = ElementTree.parse(testbed.folder / "coord-junit.xml").getroot()
    assert [suite.get("name") for suite in suites] == ["tool.qa"]
    assert testbed.coord("qa", "ci", "--repo", "elsewhere").code == 2
    # A check without a report of tests tells its failure in its output alone.
    testbed.write(repos={"lib": {"qa": [{"name": "lint", "run": "echo line 7 is too long; exit 1"}]}})
    silent = testbed.coord("qa", "ci", **job)
    assert silent.code == 3
    assert re.search(r"✗ \S+  lib  .*exit code 1.*\n  \| line 7 is too long\n", silent.err)
    assert "line 7" not in silent.out, "the report does not repeat it"
    (annotation,) = (line for line in silent.err.splitlines() if line.startswith("::error "))
    assert annotation.endswith("%0Aline 7 is too long")
    assert summary.read_text().endswith("- `line 7 is too long`\n")
    quiet = testbed.coord("-q", "qa", "ci", **job)
    assert quiet.out.count("line 7") == testbed.coord("qa", "show").out.count("line 7") == 1
    (check,) = testbed.coord("qa", "show", "--json").json["checks"]
    assert check["output"] == ["line 7 is too long"]
    testbed.ok("down")


def report(*failures: FailedTest, why: str = "it failed") -> QaReport:
    check = CheckView(
        todo="T", repo="lib", check="unit", verdict=CheckVerdict.RED, why=why, failures=failures, log="x"
    )
    numbers = dict.fromkeys(("green", "total", "passed", "failed", "skipped", "errors"), 0)
    totals = Totals(verdict=CheckVerdict.RED, checks=1, duration_s=1.0, **numbers)
    return QaReport(
        run_id="R", plan_id="P", status="failed", verdict=CheckVerdict.RED,
        totals=totals, repos={"lib": totals}, checks=(check,),
    )  # fmt: skip


def test_words_of_a_repository_are_no_commands_and_no_markup():
    evil = "a`b | c\r\n::add-mask::x \x1b[2J ../../etc/passwd.txt:1 100% @ann"
    found = report(FailedTest(name=evil, message="\n::error::y"), why=evil)
    (line,) = annotations_of(found, {"lib": "a,b:c"})
    assert line.isprintable()
    assert line.startswith("::error title=lib unit%3A red::")
    text = summary_of(found)
    assert "\x1b" not in text
    assert not any(row.startswith("::") for row in text.splitlines())
    assert "`a'b \\| c ::add-mask::x" in text


def test_many_failures_are_bounded():
    many = tuple(FailedTest(name=f"tests/test_{n}.py:{n}", message="m" * 10_000) for n in range(50))
    lines = list(annotations_of(report(*many), {}))
    assert len(lines) == 11
    assert lines[3].startswith("::error file=tests/test_3.py,line=3,")
    assert all(len(line) < 1000 for line in lines)
    checks = report(*many).checks * 2000
    assert len(summary_of(report().model_copy(update={"checks": checks})).encode()) < LONGEST_SUMMARY + 1000


@pytest.mark.long
@pytest.mark.skipif(ACT is None, reason="act is not installed: make forge-tools")
def test_a_workflow_of_github_runs_it(testbed: Testbed, tmp_path: Path):
    """By act, a runner of workflows: its commands, its summary and its exit code are those of the job."""
    run = 'cat green > r.xml || { echo "$SUITE" > r.xml; false; }'
    testbed.write(repos={"lib": {"qa": {"name": "unit", "run": run, "report": "r.xml"}}})
    workflow = tmp_path / "job" / ".github" / "workflows" / "checks.yml"
    workflow.parent.mkdir(parents=True)
    steps = [{"run": f"cd {testbed.folder} && {COORD} ci"}]
    job = {"runs-on": "ubuntu-latest", "env": {"SUITE": SUITE}, "steps": steps}
    workflow.write_text(json.dumps({"on": "push", "jobs": {"checks": job}}))
    git(tmp_path / "job", "init", "-q", "-b", "main")
    git(tmp_path / "job", "add", "--all")
    git(tmp_path / "job", "commit", "-q", "-m", "workflow")
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def act() -> subprocess.CompletedProcess[str]:
        words = [str(ACT), "push", "-P", "ubuntu-latest=-self-hosted"]
        return subprocess.run(
            words, cwd=tmp_path / "job", env=environment, capture_output=True, text=True, check=False
        )

    red = act()
    assert red.returncode != 0
    assert "::error file=" in red.stdout
    assert "Summary - ### Quality checks: red" in red.stdout
    lib = testbed.folder / "lib"
    (lib / "green").write_text("<testsuite><testcase name='a'/></testsuite>\n")
    git(lib, "add", "green")
    git(lib, "commit", "-q", "-m", "green")
    green = act()
    assert green.returncode == 0, green.stdout
    assert "Summary - ### Quality checks: green" in green.stdout
    testbed.ok("down")
