"""Measures the masking of secrets: `python -m benchmarks.masking`.

A log of tests, base64 without a secret, and many short writes pass a `StreamMask` in pieces as a worker reads
them, with one, five and twenty secrets. The unmasked copy is what a worker does with the same pieces anyway:
into a file and into the buffer for Redis. Each figure is time of the processor, because both work alone, and
the best of several rounds.
"""

from __future__ import annotations

import base64
import random
import string
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.report import Report, parser, report
from coordination.credentials.masking import Masker
from workers.attempt.output import Log

PIECE = 64 * 1024
"""Bytes that `workers/process/child.py` reads at once."""
MEGABYTES = 16
GOAL_MB_S = 50
LETTERS = string.ascii_letters + string.digits


def best(deed: Callable[[], object], rounds: int) -> float:
    """Return the seconds of the processor in the fastest round."""

    def seconds() -> float:
        begin = time.process_time()
        deed()
        return time.process_time() - begin

    return min(seconds() for _ in range(rounds))


def secrets(number: int) -> list[str]:
    draw = random.Random(1)
    kinds = (
        lambda: "ghp_" + "".join(draw.choices(LETTERS, k=36)),
        lambda: "".join(draw.choices(string.hexdigits.lower(), k=40)),
        lambda: "".join(draw.choices(string.printable[:94], k=24)),
        lambda: "".join(draw.choices(string.ascii_lowercase + string.digits, k=8)),
        lambda: "AKIA" + "".join(draw.choices(string.ascii_uppercase, k=16)),
    )
    return [kinds[i % len(kinds)]() for i in range(number)]


def log_of_tests() -> bytes:
    draw = random.Random(2)
    lines = (
        f"2026-01-01 12:00:{i % 60:02} INFO tests/unit/test_{draw.randrange(999)}.py::test_some_{i} PASSED "
        f"[{i % 100:3}%] {draw.random()}\n"
        for i in range(20_000)
    )
    text = "".join(lines).encode()
    return (text * (MEGABYTES * 10**6 // len(text) + 1))[: MEGABYTES * 10**6]


def pieces(data: bytes, size: int) -> Sequence[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def pass_through(masker: Masker, given: Sequence[bytes]) -> None:
    stream = masker.stream()
    for piece in given:
        stream.feed(piece)
    stream.end()


def copy(given: Sequence[bytes], masker: Masker) -> None:
    """Write pieces as a worker does, with the log file and the buffer for Redis."""
    with tempfile.TemporaryDirectory(prefix="coord-bench-") as folder:
        log = Log(lambda text, skipped: None, Path(folder, "log"), limit_bytes=1024 * 1024)
        stream = masker.stream()
        for piece in given:
            log.write(stream.feed(piece))
        log.write(stream.end())
        log.close()


def measure(rows: Report, rounds: int) -> None:
    log = log_of_tests()
    noise = base64.b64encode(random.Random(3).randbytes(MEGABYTES * 750_000))
    several = Masker(secrets(5))
    plain = best(lambda: copy(pieces(log, PIECE), Masker()), rounds)
    masked = best(lambda: copy(pieces(log, PIECE), several), rounds)
    rows.add("log copied without secrets", len(log) / plain / 1e6, "MB/s")
    rows.add("log copied with 5 secrets", len(log) / masked / 1e6, "MB/s", at_least=GOAL_MB_S)
    rows.add("time of a copy with 5 secrets, of one without", masked / plain)
    for number in (1, 5, 20):
        masker = Masker(secrets(number))
        name = f"{number} secrets ({len(masker.needles)} forms)" if number > 1 else "1 secret"
        goal = GOAL_MB_S if number == 5 else None
        took = best(lambda masker=masker: pass_through(masker, pieces(log, PIECE)), rounds)  # type: ignore[misc]
        rows.add(f"log of tests, {name}", len(log) / took / 1e6, "MB/s", at_least=goal)
    took = best(lambda: pass_through(several, pieces(noise, PIECE)), rounds)
    rows.add("base64, 5 secrets", len(noise) / took / 1e6, "MB/s", at_least=GOAL_MB_S)
    lines = pieces(log[: 2 * 10**6], 100)
    took = best(lambda: pass_through(several, lines), rounds)
    rows.add("a write of 100 bytes, 5 secrets", 1e6 * took / len(lines), "µs")


if __name__ == "__main__":
    options = parser(__doc__, "masking").parse_args()
    with report("masking", options) as rows:
        measure(rows, 2 if options.short else 5)
