"""Runs that meet with trouble of their own besides the fault: a worker that dies or sleeps, a clock that is
set, rubbish.
"""

from __future__ import annotations

import fcntl
import signal
import time

from coordination.backend.keys import lock
from tests.chaos.failpoints.programs import CLOCK
from tests.chaos.failpoints.scene import Scene
from tests.chaos.failpoints.stories.props import P, R
from tests.chaos.failpoints.story import Act, Story, WorkerSpec

LOST = Story(
    name="a worker dies",
    todos=[{"id": "A", **P, "env": {"LASTS": "0.5"}}, {"id": "B", **P, "blocked_by": ["A"]}],
    workers=[WorkerSpec(role="worker-keeper", words=("--keeper",)), WorkerSpec(role="worker-doomed")],
    acts=[
        Act(
            when=lambda s: s.state("A") == "running",
            do=lambda s: s.worker("worker-doomed").signal(signal.SIGKILL),
        )
    ],
)
STALE = Story(
    name="a worker sleeps through its lease",
    todos=[{"id": "A", **R, "env": {"LASTS": "0.5"}}, {"id": "B", **P, "blocked_by": ["A"]}],
    workers=[WorkerSpec(role="worker-slow"), WorkerSpec(role="worker-keeper", words=("--keeper",))],
    acts=[
        Act(
            when=lambda s: s.state("A") == "running",
            do=lambda s: s.worker("worker-slow").signal(signal.SIGSTOP),
        )
    ],
)


def _hand_back(scene: Scene) -> None:
    """Told twice to stop."""
    worker = scene.worker()
    worker.signal(signal.SIGTERM)
    scene.until(
        lambda: "stopping" in worker.said or worker.poll() is not None or worker.was_stopped,
        "the first signal heard",
    )
    worker.signal(signal.SIGTERM)


HANDED_BACK = Story(
    name="handed back",
    todos=[{"id": "A", **P, "env": {"LASTS": "0.7"}}],
    acts=[Act(when=lambda s: s.state("A") == "running", do=_hand_back)],
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
    acts=[Act(when=lambda s: s.state("A") == "parked", do=lambda s: fcntl.flock(s.kept, fcntl.LOCK_UN))],
)


def _another_server(scene: Scene) -> None:
    """As if this Redis were another process than the one before, and the run older than it."""
    scene.redis.zadd(scene.keys.live, {scene.run: 1}, xx=True)
    scene.redis.hset(scene.keys.epoch, mapping={"server": "another", "n": 1})


EPOCH = Story(
    name="Redis was restarted",
    todos=[{"id": "A", **P, "env": {"LASTS": "1"}}, {"id": "B", **P, "blocked_by": ["A"]}],
    before=_another_server,
    over=lambda scene: scene.happened("redis.restarted"),
)


def _set_the_clock_back(scene: Scene) -> None:
    """By 3 s, as keepers see it: their own is set forward. Whoever leads dies before, and so did a worker;
    both seem to live on.
    """
    scene.retire("worker-doomed", signal.SIGKILL)
    (scene.testbed.folder / CLOCK).write_text("3")
    scene.redis.pexpire(scene.keys.locks.holder(lock("keeper")), 30_000)
    record = scene.redis.get(scene.keys.worker(scene.redis.zrange(scene.keys.workers, 0, 0)[0])) or "{}"
    scene.redis.set(scene.keys.worker("ghost"), record, px=30_000)
    scene.redis.zadd(scene.keys.workers, {"ghost": time.time() * 1000})


CLOCK_SET = Story(
    name="the clock is set back",
    todos=[{"id": "A", **P, "env": {"FAILS": "1"}, "retry": {"attempts": 2, "delay": "2s"}}],
    workers=[WorkerSpec(role="worker-doomed"), WorkerSpec(role="worker-keeper")],
    acts=[
        Act(
            when=lambda s: s.worker("worker-keeper").reached.count("lock/acquire.after") > 3,
            do=_set_the_clock_back,
        )
    ],
    # A step that a keeper saw alone which then died is not seen by others.
    over=lambda scene: scene.struck() or scene.redis.hget(scene.keys.counters, "clock_steps"),
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
    acts=[Act(when=lambda s: s.happened("run.stuck"), do=_mend)],
)


def _misplace_live(scene: Scene) -> None:
    """Somebody else has written to the key under which the live runs are listed."""
    scene.redis.delete(scene.keys.live)
    scene.redis.set(scene.keys.live, "of somebody else")


MISPLACED = Story(
    name="a key of another type",
    todos=[{"id": "A", **P, "env": {"LASTS": "2"}}],
    before=_misplace_live,
    over=lambda scene: scene.redis.type(scene.keys.live) != "string",
)
POISONED = Story(
    name="rubbish in a queue",
    todos=[{"id": "A", **P}],
    before=lambda scene: scene.redis.rpush(
        scene.keys.queue("p"), "{}", "\udcff".encode(errors="surrogateescape")
    ),
    # The log names entries that could not be set aside.
    over=lambda scene: scene.redis.llen(scene.keys.poison),
)
