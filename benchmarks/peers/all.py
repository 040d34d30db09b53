"""Every peer in turn, each with a time limit; what becomes of it is a row in any case."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.peers.home import ROOT, NotInstalled, interpreter
from benchmarks.peers.seam import Job, Ran
from benchmarks.report import Report
from benchmarks.workshop import SETTINGS
from coordination.backend.embedded import EmbeddedServer


@dataclass(frozen=True)
class Peer:
    module: str
    title: str
    packages: tuple[str, ...]
    """Packages of the extra `bench` to install for it. Empty if coord's own suffice."""
    how: str
    smaller: int = 1
    """Divisor of the size of its first try: with more it is known not to end."""


PEERS = (
    Peer("rq", "RQ", ("rq",), "depends_on, 2 SimpleWorkers, maintenance without pause"),
    Peer("dask", "dask.distributed", ("distributed",), "LocalCluster, 2 threads, in memory"),
    Peer("luigi", "Luigi", ("luigi",), "local scheduler, 2 workers"),
    Peer("prefect", "Prefect", ("prefect", "fastapi"), "temporary server, 2 threads", smaller=10),
    Peer("canvas", "Celery's chain of groups", (), "2 threads, whole levels", smaller=10),
)
TRIES = 2


class NotFinished(Exception):
    """Its words say why."""


def compare(rows: Report, plain: float, levels: int, width: int, limit_s: float) -> None:
    """`plain`: the tasks per second of plain Celery."""
    for peer in PEERS:
        try:
            python = interpreter(peer.packages)
        except NotInstalled as why:
            rows.add(peer.title, None, "x", beside=str(why))
            continue
        for i in range(TRIES):
            if _tried(rows, peer, python, plain, (levels, max(1, width // peer.smaller // 10**i)), limit_s):
                break


def _tried(
    rows: Report, peer: Peer, python: str, plain: float, size: tuple[int, int], limit_s: float
) -> bool:
    levels, width = size
    name = f"{peer.title}, {levels} x {width:,}"
    try:
        ran = run(peer, python, levels, width, limit_s)
    except NotFinished as why:
        rows.add(name, None, "x", beside=f"{why} ({peer.how})")
        return False
    rate = levels * width / ran.seconds
    words = [f"{rate:,.0f} todos/s", peer.how, *([ran.note] if ran.note else [])]
    rows.add(name, rate / plain, "x", beside="; ".join(words))
    return True


def run(peer: Peer, python: str, levels: int, width: int, limit_s: float) -> Ran:
    """In a process group of its own, which is ended with it. Raises NotFinished."""
    with tempfile.TemporaryDirectory(prefix="coord-bench-") as made, tempfile.TemporaryFile() as said:
        folder = Path(made) / "own"
        folder.mkdir()
        server = EmbeddedServer(Path(made) / ".coord", SETTINGS)
        try:
            job = json.dumps(asdict(Job(levels, width, server.start(), str(folder))))
            words = [python, "-m", "benchmarks.peers.seam", peer.module, job]
            env = {**os.environ, "PYTHONPATH": str(ROOT)}
            process = subprocess.Popen(
                words, cwd=folder, env=env, stdout=said, stderr=said, start_new_session=True
            )
            _await(process, limit_s)
            if not (folder / "ran.json").exists():
                said.seek(0)
                raise NotFinished(
                    f"failed: {(said.read().decode(errors='replace').strip() or 'no word').splitlines()[-1]}"
                )
            return Ran(**json.loads((folder / "ran.json").read_text()))
        finally:
            server.stop()


def _await(process: subprocess.Popen[bytes], limit_s: float) -> None:
    try:
        process.wait(limit_s)
    except subprocess.TimeoutExpired as error:
        raise NotFinished(f"not finished after {limit_s:.0f} s") from error
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
