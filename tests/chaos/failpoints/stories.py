"""What the processes are doing when they fail. Between them the stories come by every point; none takes longer than some seconds."""

from __future__ import annotations

import fcntl
import signal
import time

from coordination.runs.records import LIVE, RunStatus
from coordination.wire.keys import lock
from tests.chaos.failpoints.programs import CLOCK
from tests.chaos.failpoints.scene import PLAN, Act, Crew, Scene, Story
from tests.chaos.ledger import BODY
from tests.stage import git

BODY_ = ["sh", str(BODY)]
WHEN_ALLOWED = ["sh", "-c", f'test -e "$LEDGER.allowed" && exec sh {BODY}']
HANDS_OVER = ["sh", "-c", f'echo "{{}}" > "$COORD_OUTPUT"; exec sh {BODY}']
R, P = {"repo": "r", "action": BODY_}, {"repo": "p", "action": BODY_, "workspace": "in-place"}
Q = {**P, "repo": "q"}
RETRY = {"attempts": 3, "delay": "100ms"}
HOUR_MS = 3600 * 1000


def ended(scene: Scene) -> bool:
    return bool(scene.runs) and all(scene.status(run) not in LIVE for run in scene.runs)


DATAFLOW = Story(
    name="dataflow",
    plan={"strategy": "dataflow"},
    todos=[
        {"id": "A", **P, "resources": [{"name": "gpu"}]},
        {"id": "B", **R, "blocked_by": ["A"], "action": HANDS_OVER},
        {"id": "C", **P, "blocked_by": ["A"], "env": {"FAILS": "1"}, "retry": RETRY, "resources": [{"name": "gpu"}]},
        {"id": "D", **P, "blocked_by": ["B", "C"]},
    ],
    resources={"gpu": 1},
)
LEVELS = Story(
    name="levels",
    plan={"strategy": "levels"},
    todos=[
        {"id": "A", **P},
        {"id": "B", **Q},
        {"id": "C", **P, "blocked_by": ["A", "B"]},
        {"id": "E", **Q, "blocked_by": ["C"]},
    ],
)


def _allow(scene: Scene) -> None:
    (scene.stage.folder / "ledger.allowed").touch()


FAILED = Story(
    name="failed, then retried",
    todos=[
        {"id": "A", **R},
        {"id": "F", **P, "action": WHEN_ALLOWED, "blocked_by": ["A"], "env": {"LASTS": "0.8"}},
        {"id": "D", **P, "blocked_by": ["F"]},
    ],
    acts=[
        Act(when=ended, deed=_allow, coord=("retry", "last", "--detach")),
        Act(when=lambda s: len(s.runs) == 2, coord=("clean", "--yes"), role="clean-two"),
    ],
    ends=[RunStatus.FAILED, RunStatus.SUCCEEDED],
)
FAILED_LEVEL = Story(
    name="a level fails, then is swept again",
    plan={"strategy": "levels", "on_failure": "continue"},
    todos=[{"id": "A", **P}, {"id": "F", **Q, "action": WHEN_ALLOWED}, {"id": "D", **P, "blocked_by": ["A"]}],
    acts=[Act(when=ended, deed=_allow, coord=("sweep", PLAN, "--failed", "--detach"), role="sweep-failed")],
    ends=[RunStatus.FAILED, RunStatus.SUCCEEDED],
)
STEERED = Story(
    name="paused and resumed",
    todos=[{"id": "A", **P, "env": {"LASTS": "0.5"}}, {"id": "B", **P, "blocked_by": ["A"]}],
    acts=[
        Act(when=lambda s: s.state("A") == "running", coord=("pause", "last")),
        Act(when=lambda s: s.state("A") != "running", coord=("resume", "last")),
    ],
)


def _lose_run(scene: Scene) -> None:
    """As in a Redis that has never heard of it."""
    run = scene.run
    for key in (scene.keys.live, scene.keys.runs):
        scene.redis.zrem(key, run)
    scene.redis.delete(*scene.redis.keys(f"{scene.keys.run(run).prefix}:*"))


MOVED = Story(
    name="exported and imported",
    todos=[{"id": "A", **P, "env": {"LASTS": "0.3"}}, {"id": "B", **P, "blocked_by": ["A"]}],
    acts=[
        Act(when=lambda s: s.state("A") == "running", coord=("pause", "last")),
        Act(when=lambda s: s.state("A") not in ("running", "dispatched"), coord=("export-run", "last", "moved.json")),
        Act(
            when=lambda s: (s.stage.folder / "moved.json").exists(), deed=_lose_run, coord=("import-run", "moved.json")
        ),
        Act(when=lambda s: s.runs, coord=("resume", "last"), role="resume-moved"),
    ],
)
CANCELLED = Story(
    name="cancelled",
    todos=[{"id": "A", **P, "env": {"LASTS": "30"}}, {"id": "B", **P, "blocked_by": ["A"]}],
    acts=[Act(when=lambda s: s.state("A") == "running", coord=("cancel", "last"))],
    ends=[RunStatus.CANCELLED],
)
BY_HAND = Story(
    name="done by hand",
    plan={"strategy": "levels"},
    todos=[
        {"id": "A", **P},
        {"id": "M", "repo": "p", "action": {"type": "manual"}, "blocked_by": ["A"]},
        {"id": "B", **P, "blocked_by": ["M"]},
    ],
    acts=[Act(when=lambda s: s.state("M") == "parked", coord=("complete-todo", "M"))],
)
LOST = Story(
    name="a worker dies",
    todos=[{"id": "A", **P, "env": {"LASTS": "0.5"}}, {"id": "B", **P, "blocked_by": ["A"]}],
    crew=[Crew(role="worker-keeper", words=("--keeper",)), Crew(role="worker-doomed")],
    acts=[
        Act(
            when=lambda s: s.state("A") == "running",
            deed=lambda s: s.worker("worker-doomed").signal(signal.SIGKILL),
        )
    ],
)
STALE = Story(
    name="a worker sleeps through its lease",
    todos=[{"id": "A", **R, "env": {"LASTS": "0.5"}}, {"id": "B", **P, "blocked_by": ["A"]}],
    crew=[Crew(role="worker-slow"), Crew(role="worker-keeper", words=("--keeper",))],
    acts=[
        Act(
            when=lambda s: s.state("A") == "running",
            deed=lambda s: s.worker("worker-slow").signal(signal.SIGSTOP),
        )
    ],
)


def _hand_back(scene: Scene) -> None:
    """Told twice to stop."""
    worker = scene.worker()
    worker.signal(signal.SIGTERM)
    scene.until(
        lambda: "stopping" in worker.said or worker.poll() is not None or worker.was_stopped, "the first signal heard"
    )
    worker.signal(signal.SIGTERM)


HANDED_BACK = Story(
    name="handed back",
    todos=[{"id": "A", **P, "env": {"LASTS": "0.7"}}],
    acts=[Act(when=lambda s: s.state("A") == "running", deed=_hand_back)],
)


def _occupy(scene: Scene) -> None:
    lock = scene.state_folder() / "workspaces" / scene.run / "r" / "lock"
    lock.parent.mkdir(parents=True)
    scene.kept = lock.open("w")
    fcntl.flock(scene.kept, fcntl.LOCK_EX)


BUSY = Story(
    name="the workspace is in use",
    todos=[{"id": "A", **R}],
    before=_occupy,
    acts=[Act(when=lambda s: s.state("A") == "parked", deed=lambda s: fcntl.flock(s.kept, fcntl.LOCK_UN))],
)


def _another_server(scene: Scene) -> None:
    """As if this Redis were another process than the one before, and the run older than it."""
    scene.redis.zadd(scene.keys.live, {scene.run: 1}, xx=True)
    scene.redis.hset(scene.keys.epoch, mapping={"server": "another", "n": 1})


EPOCH = Story(
    name="Redis was restarted",
    todos=[{"id": "A", **P}, {"id": "B", **P, "blocked_by": ["A"]}],
    before=_another_server,
    over=lambda scene: scene.happened("redis.restarted"),
)


def _set_the_clock_back(scene: Scene) -> None:
    """By 3 s, as keepers see it: their own is set forward. Whoever leads dies before, and so did a worker; both seem to live on."""
    scene.worker("worker-doomed").signal(signal.SIGKILL)
    (scene.stage.folder / CLOCK).write_text("3")
    scene.redis.pexpire(scene.keys.locks.holder(lock("keeper")), 30_000)
    record = scene.redis.get(scene.keys.worker(scene.redis.zrange(scene.keys.workers, 0, 0)[0])) or "{}"
    scene.redis.set(scene.keys.worker("ghost"), record, px=30_000)
    scene.redis.zadd(scene.keys.workers, {"ghost": time.time() * 1000})


CLOCK_SET = Story(
    name="the clock is set back",
    todos=[{"id": "A", **P, "env": {"FAILS": "1"}, "retry": {"attempts": 2, "delay": "2s"}}],
    crew=[Crew(role="worker-doomed"), Crew(role="worker-keeper", words=("--keeper",))],
    acts=[
        Act(when=lambda s: s.worker("worker-keeper").reached.count("lock/acquire.after") > 3, deed=_set_the_clock_back)
    ],
    # A step that a keeper saw alone which then died is not seen by others.
    over=lambda scene: scene.target or scene.redis.hget(scene.keys.counters, "clock_steps"),
)


def _lose_track(scene: Scene) -> None:
    """A todo that is due and that nobody will ever be told of."""
    keys = scene.keys.run(scene.run)
    scene.redis.hset(keys.state, "A", "waiting")
    scene.redis.zrem(f"{keys.prefix}:sent", "A")
    scene.redis.delete(scene.keys.queue("p"))
    scene.stuck = True


def _mend(scene: Scene) -> None:
    keys = scene.keys.run(scene.run)
    scene.redis.hset(keys.state, "A", "dispatched")
    scene.redis.zadd(f"{keys.prefix}:sent", {"A": 1})


STUCK = Story(
    name="stuck, and mended by hand",
    plan={"strategy": "dataflow"},
    todos=[{"id": "A", **P}],
    before=_lose_track,
    acts=[Act(when=lambda s: s.happened("run.stuck"), deed=_mend)],
)
POISONED = Story(
    name="rubbish in a queue",
    todos=[{"id": "A", **P}],
    before=lambda scene: scene.redis.rpush(scene.keys.queue("p"), "{}", "\udcff".encode(errors="surrogateescape")),
    over=lambda scene: scene.redis.llen(scene.keys.poison),  # what could not be set aside stands in the log
)


def _long_ago(scene: Scene) -> None:
    """Judged now: there will be nothing left to judge. Then the run is two hours older."""
    scene.judge()
    past = int(time.time() * 1000) - 2 * HOUR_MS
    run = scene.run
    scene.redis.hset(scene.keys.run(run).meta, mapping={"started_at": past, "finished_at": past})
    scene.redis.zadd(scene.keys.runs, {run: past})
    scene.redis.zadd(scene.keys.runs, {"ghost": past})  # a run whose records went in some other way
    scene.forgotten.append(run)


EXPIRED = Story(
    name="forgotten",
    todos=[{"id": "A", **R}, {"id": "B", **P}],
    env={"COORD_KEEP_RUNS": "1h"},
    acts=[Act(when=ended, deed=_long_ago)],
    over=lambda scene: not any(scene.redis.keys(f"{scene.keys.run(run).prefix}*") for run in scene.forgotten),
)
CLEANED = Story(
    name="cleaned up",
    todos=[{"id": "A", **R}, {"id": "F", **R, "action": "false"}],
    acts=[Act(when=ended, coord=("clean", "--yes"))],
    ends=[RunStatus.FAILED],
)
RESTRICTED = Story(
    name="a restricted worker",
    plan={"strategy": "levels"},
    todos=[
        {"id": "A", **P},
        {"id": "B", **R, "env": {"FAILS": "1"}, "retry": RETRY},
        {"id": "C", **P, "blocked_by": ["A", "B"]},
    ],
    crew=[
        Crew(role="worker-keeper", words=("--keeper",)),
        Crew(role="worker-restricted", env={"COORD_RESTRICTED": "true"}),
    ],
)
HOSTS = Story(
    name="two hosts",
    todos=[{"id": "A", **R}, {"id": "B", "repo": "s", "action": BODY_, "blocked_by": ["A"]}],
    crew=[
        Crew(role="worker-h1", words=("--repo", "r"), env={"COORD_HOST": "h1"}),
        Crew(role="worker-h2", words=("--repo", "s"), env={"COORD_HOST": "h2"}),
    ],
)
NOT_CARRIED = Story(
    name="nothing is carried",
    todos=HOSTS.todos,
    crew=HOSTS.crew,
    env={"COORD_BUNDLE_LIMIT_BYTES": "0"},
)
HOST_GONE = Story(
    name="a host is gone for good",
    todos=[{"id": "A", **R}, {"id": "F", **R, "action": WHEN_ALLOWED, "blocked_by": ["A"]}],
    crew=[Crew(role="worker-h1", env={"COORD_HOST": "h1"})],
    acts=[
        Act(when=ended, deed=lambda scene: (_allow(scene), scene.retire("worker-h1"))),
        Act(when=lambda _: True, coord=("retry", "last", "--without", "h1", "--detach"), role="retry-without"),
        Act(when=lambda _: True, deed=lambda scene: scene.start(Crew(role="worker-h2", env={"COORD_HOST": "h2"}))),
    ],
    ends=[RunStatus.FAILED, RunStatus.SUCCEEDED],
)
PUSHED = Story(
    name="what was published is withdrawn",
    todos=[{"id": "A", **R}],
    repos={"r": {"url": "{folder}/remote.git"}},
    env={"COORD_BUNDLE_LIMIT_BYTES": "0"},
    files=lambda folder: git(folder, "init", "-q", "--bare", "remote.git"),
    acts=[Act(when=ended, coord=("rollback", "last", "--yes", "--detach"))],
    ends=[RunStatus.ROLLED_BACK],
)


UNDO = {"compensate": ["sh", "-c", f"LASTS=0 exec sh {BODY} undo-"]}
ROLLED_BACK = Story(
    name="rolled back while it runs",
    todos=[
        {"id": "A", **P, **UNDO},
        {"id": "B", **R, "blocked_by": ["A"], "action": HANDS_OVER},
        {"id": "C", **Q, **UNDO, "blocked_by": ["A"], "env": {"LASTS": "30"}},
        {"id": "D", **R, **UNDO, "blocked_by": ["B", "C"]},
    ],
    acts=[
        Act(
            when=lambda s: s.state("C") == "running" and s.state("B") == "succeeded",
            coord=("rollback", "last", "--yes"),
        )
    ],
    ends=[RunStatus.ROLLED_BACK],
)
UNDONE = Story(
    name="rolled back when it is done",
    plan={"strategy": "levels"},
    todos=[
        {"id": "A", **R, **UNDO},
        {"id": "B", **R, "blocked_by": ["A"]},
        {"id": "C", **P, **UNDO, "blocked_by": ["B"]},
    ],
    acts=[Act(when=ended, coord=("rollback", "last", "--yes", "--detach"))],
    ends=[RunStatus.ROLLED_BACK],
)
ACCEPTED = Story(
    name="what cannot be undone is accepted",
    todos=[
        {"id": "A", **P, **UNDO},
        {"id": "B", **P, "blocked_by": ["A"], "compensate": "false", "retry": {"attempts": 1}},
    ],
    acts=[
        Act(when=ended, coord=("rollback", "last", "--yes", "--detach")),
        Act(
            when=lambda s: s.status(s.run) == "rollback_failed",
            coord=("rollback", "last", "--accept", "B", "--reason", "it may stay", "--detach"),
            role="accept",
        ),
    ],
    ends=[RunStatus.ROLLED_BACK],
)
GATED = Story(
    name="approved",
    plan={"strategy": "levels"},
    todos=[
        {"id": "A", **P},
        {"id": "G", **P, "gate": True, "blocked_by": ["A"]},
        {"id": "B", **P, "blocked_by": ["G"]},
    ],
    acts=[Act(when=lambda s: s.state("G") == "parked", coord=("approve", "G", "--comment", "go on"))],
)
REJECTED = Story(
    name="rejected",
    todos=[
        {"id": "A", **P},
        {"id": "G", **P, "gate": True, "blocked_by": ["A"]},
        {"id": "B", **P, "blocked_by": ["G"]},
    ],
    acts=[Act(when=lambda s: s.state("G") == "parked", coord=("reject", "G", "--comment", "no"))],
    ends=[RunStatus.FAILED],
)
CHECKPOINT = Story(
    name="what it has written so far",
    todos=[{"id": "A", **P, "action": HANDS_OVER, "env": {"LASTS": "1"}}],
)


STORIES = (
    DATAFLOW, LEVELS, FAILED, FAILED_LEVEL, STEERED, MOVED, CANCELLED, BY_HAND, LOST, STALE, HANDED_BACK, BUSY, EPOCH, CLOCK_SET, STUCK, POISONED, EXPIRED, PUSHED,
    CLEANED, RESTRICTED, HOSTS, NOT_CARRIED, HOST_GONE, ROLLED_BACK, UNDONE, ACCEPTED, GATED, REJECTED, CHECKPOINT,
)  # fmt: skip
QUICK = (DATAFLOW, LEVELS, FAILED_LEVEL, STEERED, CANCELLED, BY_HAND, GATED, REJECTED, ACCEPTED, UNDONE)
"""For the short form."""
