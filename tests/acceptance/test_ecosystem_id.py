"""Two ecosystems in one namespace of one Redis: an id in the file tells them apart, and the second is
refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from tests.testbed import PLAN, Begun, Testbed, git

CONFLICT = 6
OURS, THEIRS = "eco-00000000000000aa", "eco-00000000000000bb"
KEYS = Keys("coord")
WORK = {"repo": "api", "action": 'echo "$COORD_TODO_ID" >> "$LEDGER"'}


def write(testbed: Testbed, ecosystem: str | None) -> None:
    testbed.write([{"id": "A", **WORK}, {"id": "B", **WORK}])
    data = yaml.safe_load(testbed.file.read_text())
    if ecosystem:
        data["coordination"]["id"] = ecosystem
    testbed.file.write_text(yaml.safe_dump(data, sort_keys=False))


@pytest.fixture
def ours(testbed: Testbed, redis_url: str) -> Testbed:
    testbed.env = {"COORD_REDIS_URL": redis_url}
    write(testbed, OURS)
    return testbed


@pytest.fixture
def worker(ours: Testbed) -> Begun:
    process = ours.begin("worker", "--all")
    process.says("serving api")
    return process


@pytest.fixture
def other(ours: Testbed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Testbed]:
    """Another folder, on the same Redis."""
    testbed = Testbed(tmp_path_factory.mktemp("other"), settings=ours.settings, env=ours.env)
    yield testbed
    for process in testbed.started:
        process.kill()
        process.wait()


def test_a_second_ecosystem_in_a_namespace_is_refused_and_nothing_of_it_runs(
    ours: Testbed, other: Testbed, worker: Begun
) -> None:
    write(other, THEIRS)

    refused = other.sweep("--todo", "A")
    doctor = other.coord("doctor", "--json")
    its_worker = other.begin("worker", "--all", COORD_HOST="elsewhere").done()

    assert refused.code == its_worker.code == CONFLICT
    for said in (refused.err, its_worker.err):
        assert OURS in said
        assert THEIRS in said
        assert "namespace" in said
    assert other.ledger == []
    assert ours.ok("list-runs", "--json").json == []
    assert any(f["severity"] == "wrong" and OURS in f["what"] for f in doctor.json["findings"])
    assert not any(THEIRS in f["what"] for f in ours.coord("doctor", "--json").json["findings"])
    assert other.coord("sweep", PLAN, "--detach", COORD_NAMESPACE="own").code == 0


@pytest.mark.parametrize("ecosystem", [OURS, None])
def test_the_same_id_in_another_folder_and_a_file_without_one_are_welcome(
    ours: Testbed, other: Testbed, worker: Begun, ecosystem: str | None
) -> None:
    write(other, ecosystem)

    assert ours.sweep("--todo", "A").code == 0
    assert other.sweep("--todo", "B").code == 0

    assert len(ours.ok("list-runs", "--json").json) == 2
    with connect(ours.env["COORD_REDIS_URL"], Profile.COMMAND) as client:
        assert client.get(KEYS.ecosystem) == OURS


def test_another_ecosystem_takes_over_when_nothing_is_left_of_the_first(
    ours: Testbed, other: Testbed, worker: Begun
) -> None:
    write(other, THEIRS)
    worker.terminate()
    worker.done()

    assert [f["severity"] for f in other.coord("doctor", "--json").json["findings"] if OURS in f["what"]] == [
        "warning"
    ]
    assert other.coord("sweep", PLAN, "--detach").code == 0

    assert ours.sweep("--todo", "A").code == CONFLICT


def test_a_key_of_another_type_is_said_and_set_apart(ours: Testbed, worker: Begun) -> None:
    with connect(ours.env["COORD_REDIS_URL"], Profile.COMMAND) as client:
        client.delete(KEYS.ecosystem)
        client.rpush(KEYS.ecosystem, "x")

        refused = ours.sweep("--todo", "A")
        doctor = ours.coord("doctor", "--json")

        assert refused.code != 0
        assert "Traceback" not in refused.err
        assert any("apart" in f["what"] for f in doctor.json["findings"])
        assert ours.sweep("--todo", "A").code == 0
        assert client.get(KEYS.ecosystem) == OURS


def test_init_writes_a_random_id_that_stays_through_edits(tmp_path: Path) -> None:
    ids = set()
    for name in ("one", "two"):
        testbed = Testbed(tmp_path / name)
        (testbed.folder / "api").mkdir(parents=True)
        git(testbed.folder, "init", "-q", "--initial-branch=main", str(testbed.folder / "api"))
        git(testbed.folder / "api", "commit", "-q", "--allow-empty", "-m", "first commit")
        testbed.ok("init")
        ids.add(found := yaml.safe_load(testbed.file.read_text())["coordination"]["id"])
        assert re.fullmatch(r"[a-z0-9-]{8,64}", found)
        testbed.ok("create-issue", "--title", "First")
        assert yaml.safe_load(testbed.file.read_text())["coordination"]["id"] == found
    assert len(ids) == 2


def test_validate_tells_how_to_add_an_id_only_where_a_redis_is_shared(testbed: Testbed) -> None:
    write(testbed, None)

    alone = testbed.coord("validate", "--strict")
    shared = testbed.coord("validate", "--strict", COORD_REDIS_URL="redis://127.0.0.1:1")

    assert (alone.code, shared.code) == (0, 0)
    assert "id: eco-" not in alone.err
    assert "id: eco-" in shared.err
