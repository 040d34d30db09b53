"""A model of a circuit breaker, for the steps to be held against. Times are in ms and passed in."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Probe:
    who: str
    ends: int


@dataclass
class BreakerModel:
    failures: int
    window: int
    open_for: int
    state: str = "closed"
    failed_at: list[int] = field(default_factory=list)
    until: int = 0
    probe: Probe | None = None
    behind: set[str] = field(default_factory=set)
    called_up: set[str] = field(default_factory=set)
    """The waiters behind it when its answer changed, since the last look."""

    def ask(self, who: str, now: int, ttl: int) -> str:
        word = self.answer(who, now)
        if word == "probe":
            self.state, self.probe = "half-open", Probe(who, now + ttl)
        return word

    def answer(self, who: str, now: int) -> str:
        if self.state == "closed":
            return "closed"
        if self.state == "open" and now < self.until:
            return "open"
        if self.probe and self.probe.who != who and now < self.probe.ends:
            return "half-open"
        return "probe"

    def fail(self, who: str, now: int) -> None:
        if self.state == "closed":
            self.failed_at.append(now)
            recent = [at for at in self.failed_at if now - at < self.window]
            if len(recent) >= self.failures:
                self._open(now)
        elif self._is_probe(who):
            self._open(now)

    def succeed(self, who: str) -> None:
        if self._is_probe(who):
            self.reset()

    def give_up(self, who: str) -> None:
        if self._is_probe(who):
            self.probe = None
            self.called_up |= self.behind

    def reset(self) -> None:
        if self.state != "closed":
            self.called_up |= self.behind
        self.state, self.probe, self.failed_at, self.behind = "closed", None, [], set()

    def recent(self, now: int) -> int:
        return len([at for at in self.failed_at if now - at < self.window])

    def _open(self, now: int) -> None:
        self.state, self.until, self.probe, self.failed_at = "open", now + self.open_for, None, []
        self.called_up |= self.behind

    def _is_probe(self, who: str) -> bool:
        return self.probe is not None and self.probe.who == who
