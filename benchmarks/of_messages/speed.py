"""How soon a message is handled, how many a second are, and how fast somebody who comes back catches up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median, quantiles

from benchmarks.of_messages.handler import Handler, handler
from benchmarks.of_messages.transports import TRANSPORTS

PACE_S = 0.004
"""Between two messages whose time is taken: none waits for another."""


@dataclass
class Speed:
    took_s: dict[str, list[float]] = field(default_factory=lambda: {system: [] for system in TRANSPORTS})
    """Send → handler, by system."""
    rates: dict[str, list[float]] = field(default_factory=lambda: {system: [] for system in TRANSPORTS})
    """Messages a second, sent one after the other and handled in another process, by system and round."""

    def took_ms(self, system: str, percent: int) -> float:
        return 1000 * quantiles(self.took_s[system], n=100, method="inclusive")[percent - 1]

    def rate(self, system: str) -> float:
        return median(self.rates[system])

    def share_of(self, system: str) -> float:
        """How many of the system's messages coord brings in the same time: the median of the
        rounds' ratios.
        """
        return median(
            ours / theirs for ours, theirs in zip(self.rates["coord"], self.rates[system], strict=True)
        )


def speed(url: str, rounds: int, single: int, many: int) -> Speed:
    """Rounds in turns: of `single` messages one by one, and of `many` as fast as it goes."""
    found = Speed()
    for system in TRANSPORTS:
        TRANSPORTS[system](url, "speed").prepare()
    with ExitStack() as ends:
        handlers = {system: ends.enter_context(handler(url, system, "speed")) for system in TRANSPORTS}
        for one in handlers.values():
            one.greet()
        for number in range(-1, rounds):
            for system in sorted(TRANSPORTS, reverse=bool(number % 2)):
                took, rate = _paced(handlers[system], single), _rushed(handlers[system], many)
                if number >= 0:  # the first is for connections and scripts
                    found.took_s[system] += took
                    found.rates[system].append(rate)
    return found


def _paced(to: Handler, number: int) -> Sequence[float]:
    to.expect(number)
    for n in range(number):
        time.sleep(PACE_S)
        to.transport.send((n, time.monotonic_ns()))
    return to.handled().took_s


def _rushed(to: Handler, number: int) -> float:
    to.expect(number)
    begin = time.monotonic_ns()
    for n in range(number):
        to.transport.send((n, begin))
    handled = to.handled()
    assert handled.in_order, "not in the order of sending"
    return number / ((handled.end_ns - begin) / 1e9)


def catch_up(url: str, system: str, number: int) -> float:
    """Messages a second, of a recipient that was away: from the first it handles to the last, each handled
    and acknowledged.
    """
    transport = TRANSPORTS[system](url, "away")
    transport.prepare()
    for n in range(number):
        transport.send((n, time.monotonic_ns()))
    with handler(url, system, "away") as back:
        back.greet()
        begin = time.monotonic_ns()
        back.expect(number - 1)
        handled = back.handled()
    assert handled.in_order, "not in the order of sending"
    return (number - 1) / ((handled.end_ns - begin) / 1e9)
