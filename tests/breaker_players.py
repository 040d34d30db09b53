"""Processes that ask circuit breakers at the same time: `python -m tests.breaker_players URL ROUNDS`.

Each says that it is there, waits for the start, asks the breaker of every round, and prints the rounds of
which it is the probe.
"""

from __future__ import annotations

import subprocess
import sys
import uuid

import redis

from coordination.backend.step_connection import StepCaller

READY, START = "players-ready", "players-start"


def name_of(number: int) -> str:
    return f"resource:r{number}"


def play(url: str, rounds: int) -> None:
    client = redis.Redis.from_url(url, decode_responses=True)
    step, who = StepCaller(client), uuid.uuid4().hex
    client.rpush(READY, who)
    client.blpop(START)
    for number in range(rounds):
        if step("breaker/allow", ["test:"], [name_of(number), who, "a player", 60_000]) == ["probe"]:
            sys.stdout.write(f"{number}\n")


def begin(url: str, rounds: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.breaker_players", url, str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


if __name__ == "__main__":
    play(sys.argv[1], int(sys.argv[2]))
