"""The story *machines*: repositories lie on several machines, and the file on none of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import pytest

from coordination.backend.client import Profile, connect
from coordination.demo import create
from tests.acceptance.gate import Gate
from tests.endpoints import Certificates, leading_to, listening
from tests.machines import PASSWORD, Loopback, Machine, Namespaces, Network, Site
from tests.testbed import PLAN, Begun, Testbed, git
from tests.waiting import until

PACKAGES = ("units", "config", "cli", "text", "store", "report")
CONFLICT, UNREACHABLE = 6, 7
QUICK = {"COORD_LEASE_TTL": "6s", "COORD_HEARTBEAT": "500ms"}


@pytest.fixture
def new_site(tmp_path: Path) -> Iterator[Callable[[Network], Site]]:
    made: list[Site] = []

    def make(network: Network) -> Site:
        made.append(Site(tmp_path, network))
        return made[-1]

    yield make
    for site in made:
        site.end()


@pytest.fixture
def site(new_site: Callable[[Network], Site]) -> Site:
    return new_site(Loopback())


def serve(machine: Machine, origins: Path, repos: Sequence[str]) -> Begun:
    """With the repositories at another place than on any other machine."""
    for repo in repos:
        machine.clone(origins / repo, place(machine, repo))
    return machine.worker(**{repo: place(machine, repo) for repo in repos})


def place(machine: Machine, repo: str) -> str:
    return f"work-{machine.folder.name}/{repo}"


def checkout(machine: Machine, repo: str) -> Path:
    return machine.folder / place(machine, repo)


def hosts(laptop: Testbed) -> set[tuple[str, str]]:
    """Return each repository of the last run with the host that served it."""
    shown = laptop.ok("show-run").out.partition("\nchange set ")[0]
    return {(repo, host) for _, repo, host, *_ in (line.split() for line in shown.splitlines()[2:])}


def branches(machine: Machine, repo: str) -> Sequence[str]:
    return git(
        checkout(machine, repo), "for-each-ref", "--format=%(refname:short)", "refs/heads/coord"
    ).split()


@pytest.mark.long
def test_the_samples_plan_is_carried_out_with_each_package_on_a_machine_and_a_network_of_its_own(
    new_site: Callable[[Network], Site], tmp_path: Path
):
    try:
        network = Namespaces()
    except PermissionError as error:
        pytest.skip(f"networks of our own cannot be made here: {error}")

    site, packages = new_site(network), tmp_path / "packages"
    create(packages)
    laptop = site.submitter()
    shutil.copy(packages / "ecosystem.yaml", laptop.file)
    machines = {repo: site.machine(f"for-{repo}") for repo in PACKAGES}
    for repo, machine in machines.items():
        serve(machine, packages, [repo])

    swept = laptop.sweep()

    assert swept.code == 0, swept.err
    assert list(swept.states.values()) == ["succeeded"] * 12
    assert hosts(laptop) == {(repo, f"for-{repo}") for repo in PACKAGES}
    for repo, machine in machines.items():
        until(lambda at=(machine, repo): branches(*at) == [f"coord/{PLAN}"])  # in rounds


def test_a_plan_is_carried_out_on_two_machines_over_tls(site: Site, tmp_path: Path):
    certificates = Certificates(tmp_path)

    with listening(leading_to(site.socket, certificates.of_server("localhost"))) as port:
        site.url = f"rediss://:{PASSWORD}@localhost:{port}/0?ssl_ca_certs={certificates.ca}"
        laptop, ann, ben = site.submitter(), site.machine("ann"), site.machine("ben")
        todos = [{"id": "A", "repo": "units"}, {"id": "B", "repo": "text", "blocked_by": ["A"]}]
        laptop.write(todos, repos={"units": {"path": None}, "text": {"path": None}})
        for machine, repo in ((ann, "units"), (ben, "text")):
            machine.repo(repo)
            machine.worker(**{repo: repo})
        swept = laptop.sweep()

        assert swept.code == 0, swept.err
        assert hosts(laptop) == {("units", "ann"), ("text", "ben")}


def test_a_run_waits_for_a_folder_that_is_not_there_and_says_where(site: Site):
    laptop, ann = site.submitter(), site.machine("ann", **QUICK)
    laptop.write([{"id": "A", "repo": "units"}], repos={"units": {"path": None}})
    origin = ann.repo("origin")
    missing = f"on host ann there is no folder {checkout(ann, 'units')}"

    worker = ann.worker(units=place(ann, "units"))
    sweep = laptop.begin("sweep", PLAN)
    sweep.says(missing)
    waiting = until(lambda: laptop.coord("show-run").code == 0 and laptop.todo("A")["waits_for"])
    ann.clone(origin, place(ann, "units"))
    ended = sweep.done()

    assert f"there is no folder {checkout(ann, 'units')}: clone it there" in worker.err
    assert missing in waiting
    assert ended.code == 0, ended.err


def test_a_run_whose_host_is_gone_waits_says_so_and_is_taken_up_by_another_that_is_told_to(
    site: Site, tmp_path: Path
):
    laptop, ann, ben = site.submitter(), site.machine("ann", **QUICK), site.machine("ben", **QUICK)
    gate = Gate(tmp_path)
    laptop.write(
        [
            {"id": "A", "repo": "units", "action": "echo A > a"},
            {"id": "B", "repo": "units", "action": f"cat a; {gate.action}; echo B > b", "blocked_by": ["A"]},
            {"id": "C", "repo": "text", "blocked_by": ["B"]},
        ],
        repos={"units": {"path": None}, "text": {"path": None}},
    )
    origins = ben.folder
    ben.repo("units"), ben.repo("text")
    serve(ann, origins, ["units"]).says("serving")
    sweep = laptop.begin("sweep", PLAN)
    gate.wait()
    serve(ben, origins, ["units", "text"]).says("serving")

    ann.die()
    told = sweep.says("host ann, where")
    waiting = laptop.shown()
    run = waiting.json["run_id"]
    cancelled = laptop.coord("cancel")
    gate.open()
    retried = laptop.coord("retry", run, "--without", "ann", "--json")

    assert waiting.states == {"A": "succeeded", "B": "parked", "C": "waiting"}
    assert "host ann, where no worker serves units now (ben serves it" in waiting.todo("B")["waits_for"]
    assert f"coord retry {run} --without ann" in told
    assert (cancelled.code, sweep.wait(60)) == (0, 1), sweep.err
    assert (retried.code, set(retried.states.values())) == (0, {"succeeded"}), retried.err
    assert retried.todo("A")["run"] == run
    assert retried.todo("B")["worker"].endswith("@ben")
    assert git(checkout(ben, "units"), "diff", "--name-only", "main", f"coord/{PLAN}").split() == ["a", "b"]


def test_a_worker_that_has_a_repository_of_its_host_at_another_place_is_refused(site: Site):
    ann, also_ann = site.machine("ann"), site.machine("ben", COORD_HOST="ann")
    here, there = ann.repo("units"), also_ann.repo("units")
    ann.worker(units="units").says("serving")

    refused = also_ann.worker(units="units").done()

    assert refused.code == CONFLICT
    assert f"serves units at {here}, this worker at {there}" in refused.err
    assert "COORD_HOST" in refused.err


def test_another_version_of_coord_is_refused_until_nothing_is_left_of_the_first(site: Site, tmp_path: Path):
    laptop, ann, ben = site.submitter(), site.machine("ann"), site.machine("ben")
    laptop.write([{"id": "A", "repo": "units"}], repos={"units": {"path": None}})
    ann.repo("units"), ben.repo("units")
    newer = with_version("99.0", tmp_path)
    first = ann.worker(units="units")
    first.says("serving")

    worker = newer(ben, "worker", "--repo", "units=units").done()
    sweep = newer(laptop, "sweep", PLAN).done()
    first.terminate()
    assert first.wait(60) == 0
    newer(ben, "worker", "--repo", "units=units").says("serving")
    taken_over = newer(laptop, "sweep", PLAN).done()

    for refused in (worker, sweep):
        assert refused.code == CONFLICT
        assert (
            f"this is coord 99.0, but the workers and runs on this Redis use coord {version('coord')}"
            in refused.err
        )
    assert taken_over.code == 0, taken_over.err


def with_version(number: str, folder: Path) -> Callable[..., Begun]:
    """Return what begins a command of coord, which finds itself installed as another version."""
    told = folder / f"coord-{number}.dist-info"
    told.mkdir()
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: coord\nVersion: {number}\n")
    script = f"import sys; sys.path.insert(0, {str(folder)!r}); from coordination.cli import main; main()"
    return lambda testbed, *words: testbed.begin_script(script, *words)


def test_a_wrong_password_ends_a_command_and_a_worker_with_7(site: Site):
    site.url = site.url.replace(PASSWORD, "mistyped")
    laptop, ann = site.submitter(), site.machine("ann")
    laptop.write([{"id": "A", "repo": "units"}], repos={"units": {"path": None}})
    ann.repo("units")

    for refused in (laptop.coord("sweep", PLAN), laptop.coord("list-runs"), ann.worker(units="units").done()):
        assert refused.code == UNREACHABLE
        assert "refuses the login" in refused.err
        assert "mistyped" not in refused.err


def test_a_second_sweep_between_two_machines_builds_on_both_and_each_rebuilds_what_redis_lost(site: Site):
    laptop, ann, ben = site.submitter(), site.machine("ann"), site.machine("ben")
    repos: dict[str, dict[str, None]] = {"units": {"path": None}, "text": {"path": None}}
    reads = "cat $(jq -r '.predecessors[] | select(.todo==\"C\").path' < $COORD_CONTEXT)/c > d"
    first = [
        {"id": "A", "repo": "units", "action": "echo 1 > a"},
        {"id": "B", "repo": "text", "action": "echo 1 > b", "blocked_by": ["A"]},
    ]
    second = [
        {"id": "C", "repo": "units", "action": "cat a > c", "blocked_by": ["B"]},
        {"id": "D", "repo": "text", "action": f"cat b; {reads}", "blocked_by": ["C"]},
    ]
    ann.repo("units"), ben.repo("text")
    ann.worker(units="units").says("serving")
    ben.worker(text="text").says("serving")
    laptop.write(first, repos=repos)
    assert laptop.sweep().code == 0
    done = [{**todo, "status": "completed"} for todo in first]
    laptop.write([*done, *second], repos=repos)
    swept = laptop.sweep()
    assert (swept.code, set(swept.states.values())) == (0, {"succeeded"}), swept.err
    assert git(ben.folder / "text", "show", f"coord/{PLAN}:d") == "1"
    known = laptop.coord("changes", PLAN, "--json").json

    with connect(site.url, Profile.COMMAND) as client:
        client.delete(*client.keys("coord:changes:*"))
    for machine, repo in ((ann, "units"), (ben, "text")):
        machine.file.write_text(
            laptop.file.read_text().replace(f"- name: {repo}\n", f"- name: {repo}\n  path: {repo}\n")
        )
        machine.ok("plan", "adopt", PLAN, "--yes")
    rebuilt = laptop.coord("changes", PLAN, "--json").json
    facts = ("repo", "base", "tip", "host", "commits", "files")
    was, now = (
        [(*(one[f] for f in facts), sorted(one["todos"])) for one in some] for some in (known, rebuilt)
    )
    assert was == now
