"""`coord dep check` as people call it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import yaml

from tests.testbed import Testbed
from tests.waiting import until

FILE = """\
repos:
  - {name: api, path: api}
  - {name: web, path: web}  # the face
  - {name: lib, path: lib}
coordination:
  dependencies:
    - id: DEP-1
      consumer: api
      provider: lib
      version_constraint: ">=2"  # since the move
      status: unknown
    - {id: DEP-2, consumer: web, provider: lib, version_constraint: "^2.1", status: satisfied}
    - {id: DEP-3, consumer: lib, provider: api, type: test, status: satisfied}
"""


@pytest.fixture
def declared(testbed: Testbed) -> Testbed:
    for name in ("api", "web", "lib"):
        (testbed.folder / name).mkdir()
    (testbed.folder / "lib" / "pyproject.toml").write_text('[project]\nversion = "2.1.0"\n')
    testbed.file.write_text(FILE)
    return testbed


def statuses(testbed: Testbed) -> dict[str, str]:
    declared = yaml.safe_load(testbed.file.read_text())["coordination"]["dependencies"]
    return {d["id"]: d["status"] for d in declared}


def test_a_changed_status_is_written_into_the_file_once_and_nothing_else_changes(declared: Testbed) -> None:
    report = declared.ok("check-deps", "--no-write", "--json").json
    assert (report["outcomes"][0]["status"], report["written"]) == ("satisfied", [])
    assert declared.file.read_text() == FILE

    answer = declared.coord("check-deps")

    assert answer.code == 0
    assert "lib is 2.1.0 (pyproject.toml), as >=2 asks" in answer.out
    assert "cycle: api → lib → api, through runtime, test" in answer.out
    assert "3 checked: 2 satisfied, 1 unknown; written: DEP-1" in answer.err
    assert statuses(declared)["DEP-1"] == "satisfied"
    after = declared.file.read_text().splitlines()
    assert [line for line in after if "updated" not in line] == FILE.replace(
        "status: unknown", "status: satisfied"
    ).splitlines()
    written = declared.file.stat().st_mtime_ns
    assert "written" not in declared.ok("check-deps").err
    assert declared.file.stat().st_mtime_ns == written


def test_what_is_unsatisfied_or_contradictory_ends_with_3(declared: Testbed) -> None:
    declared.file.write_text(FILE.replace("^2.1", "^1.2"))

    answer = declared.coord("check-deps")

    assert answer.code == 3
    assert (
        "contradiction: no version of lib satisfies all: api wants >=2 (DEP-1), web wants ^1.2 (DEP-2)"
        in answer.out
    )
    assert statuses(declared) == {"DEP-1": "satisfied", "DEP-2": "unsatisfied", "DEP-3": "satisfied"}


def test_options_narrow_what_is_checked(declared: Testbed) -> None:
    def checked(*words: str) -> list[str]:
        return [outcome["id"] for outcome in declared.ok("check-deps", "--json", *words).json["outcomes"]]

    assert checked("api") == ["DEP-1"]
    assert checked("--type", "test") == ["DEP-3"]
    assert checked("--dep", "DEP-2,DEP-3") == ["DEP-2", "DEP-3"]
    assert checked("api", "--dep", "DEP-2") == []
    assert (
        declared.coord("check-deps", "apu").code == declared.coord("check-deps", "--dep", "DEP-9").code == 2
    )


def test_a_template_prints_lines_and_leaves_the_findings_to_people(declared: Testbed) -> None:
    answer = declared.coord("check-deps", "--no-write", "--format", "{id} {consumer}>{provider} {status}")

    assert answer.out.splitlines()[0] == "DEP-1 api>lib satisfied"
    assert len(answer.out.splitlines()) == 3
    assert "cycle: api → lib → api" in answer.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_every_check_and_nothing_is_written(declared: Testbed, number: int) -> None:
    hang = f'[sh, -c, "echo $$ > {declared.folder}/pid; sleep 600"]'
    declared.file.write_text(
        FILE + f"    - {{id: DEP-4, consumer: api, provider: web, validation: {{command: {hang}}}}}\n"
    )
    before = declared.file.read_text()
    command = declared.begin("check-deps")
    pid = until(lambda: (declared.folder / "pid").exists() and (declared.folder / "pid").read_text().strip())

    os.kill(command.pid, number)

    assert command.done().code == 130
    until(lambda: not Path(f"/proc/{pid}").exists())
    assert declared.file.read_text() == before


def test_a_file_that_cannot_be_written_keeps_nobody_from_seeing_what_was_found(declared: Testbed) -> None:
    broken = f"echo '    nonsense: [' >> {declared.file}"
    declared.file.write_text(
        FILE + f'    - {{id: DEP-4, consumer: api, provider: web, validation: {{command: "{broken}"}}}}\n'
    )

    answer = declared.coord("check-deps")

    assert answer.code == 2
    assert "lib is 2.1.0 (pyproject.toml), as >=2 asks" in answer.out
    assert "ecosystem.yaml:" in answer.err


def test_where_there_is_nothing_to_check_it_says_so(declared: Testbed) -> None:
    declared.file.write_text("repos: []\n")

    answer = declared.ok("check-deps")

    assert (answer.out, answer.err) == ("", "no dependency matches; create one: coord dep create\n")
