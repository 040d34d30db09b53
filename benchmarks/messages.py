"""How soon and how surely messages arrive: `python -m benchmarks.messages [--messages 100000]`, beside a raw
stream and bare PUBLISH.

All on one embedded server over loopback, in turns; sender and handler are processes of their own.

* Send → handler: one message after the other, none waiting for another. coord and the stream keep and
  acknowledge it.
* Throughput: from the first message sent to the last one handled. The stream is XADD, XREADGROUP and one XACK
  for the entries that it returned (at most 32); nothing is taken over, expired, numbered or removed. It goes
  through redis-py's client, as in a program; coord has connections of its own (backend/step_connection.py),
  so the same stream over those is measured too. The first ratio is the loss of a program that replaces its
  own stream by coord; the second is the cost of coord's guarantees.
* Catching up: what came while the recipient was away.
* 100,000 messages to 200 recipients of whom half are away at first; all consumers are killed (SIGKILL) every
  5 s. What a message does is counted in Redis.
* `coord cancel` → a running command: from before the step to the signal in the child, by a real worker.

Each row ends with its goal and whether it was met. The machine should have nothing else to do: times are of 2
cores.
"""

from __future__ import annotations

import argparse
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import quote

from redis.connection import parse_url

from benchmarks.of_messages.cancelling import cancelling
from benchmarks.of_messages.plenty import plenty
from benchmarks.of_messages.speed import catch_up, speed
from benchmarks.of_messages.transports import TRANSPORTS
from coordination.backend.embedded import EmbeddedServer
from coordination.settings import Settings

ROUNDS, SINGLE, MANY = 9, 300, 4000
AWAY = 20_000
RECIPIENTS = 200
TRIALS = 20


def show(what: str, figures: Sequence[str], goal: str = "", met: bool | None = None) -> None:
    verdict = {None: "", True: "met", False: "NOT MET"}[met]
    print(
        f"{what:<44} "
        + " ".join(f"{figure:>12}" for figure in figures)
        + f"   {goal:<16} {verdict}".rstrip(),
        flush=True,
    )


def fast(url: str) -> None:
    found = speed(url, ROUNDS, SINGLE, MANY)
    show("", list(TRANSPORTS))
    for percent, goal_ms in ((50, 1), (99, 5)):
        ms = [found.took_ms(system, percent) for system in TRANSPORTS]
        show(f"send to handler p{percent}, ms", [f"{it:.3f}" for it in ms], f"<= {goal_ms}", ms[0] <= goal_ms)
    show("messages a second", [f"{found.rate(system):,.0f}" for system in TRANSPORTS])
    show(
        "  of a raw stream's",
        [f"{found.share_of('stream'):.2f} x"],
        ">= 0.7",
        found.share_of("stream") >= 0.7,
    )
    show("  of one's over coord's own connections", [f"{found.share_of('lean stream'):.2f} x"])
    rates = [catch_up(url, system, AWAY) for system in ("coord", "stream")]
    show(
        f"catching up with {AWAY:,}, a second",
        [f"{rate:,.0f}" for rate in rates],
        ">= 5,000",
        rates[0] >= 5000,
    )


def sure(url: str, messages: int) -> None:
    found = plenty(url, messages, RECIPIENTS)
    print(
        f"\n{found.sent:,} messages to {RECIPIENTS} recipients, half away at first, "
        "consumers killed every 5 s"
    )
    show("lost", [f"{found.lost:,}"], "0", found.lost == 0)
    show("effects twice", [f"{found.twice:,}"], "0", found.twice == 0)
    show("order of each sender kept", ["yes" if found.in_order else "no"], "yes", found.in_order)
    show("consumers killed", [f"{found.kills:,}"])
    show("deliveries that came too late", [f"{found.redelivered:,}"])
    show(
        "dead letters, trimmed",
        [f"{found.dead:,}", f"{found.trimmed:,}"],
        "0, 0",
        found.dead + found.trimmed == 0,
    )
    show("seconds", [f"{found.took_s:.0f}"])


def told() -> None:
    took = sorted(cancelling(TRIALS))
    print(f"\ncancel to a running command, {TRIALS} runs")
    show("median, ms", [f"{1000 * median(took):.1f}"], "<= 100", median(took) <= 0.1)
    show("longest, ms", [f"{1000 * took[-1]:.1f}"], "<= 100", took[-1] <= 0.1)


@contextmanager
def loopback() -> Iterator[str]:
    """The address of a server of our own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="coord-bench-") as folder:
        server = EmbeddedServer(Path(folder) / ".coord", Settings(server_port=port))
        password = parse_url(server.start()).get("password") or ""
        try:
            yield f"redis://:{quote(password)}@127.0.0.1:{port}/0"
        finally:
            server.stop()


def main(messages: int) -> None:
    with loopback() as url:
        fast(url)
        sure(url, messages)
    told()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.messages", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--messages", type=int, default=100_000, metavar="N", help="of the long way, a multiple of 400"
    )
    main(parser.parse_args().messages)
