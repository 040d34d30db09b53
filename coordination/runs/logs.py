"""Read the output of a run's todos from Redis, or follow it until they have ended.

A log is stored in small pieces. As text, each attempt after the first is marked, and with several todos each
line names its todo. Redis keeps the head and the tail of an attempt's long output. The tail moves while a
reader follows it: text that was deleted before it was read is a gap, which is reported with its size.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from heapq import merge

import redis

from coordination.backend.keys import Keys
from coordination.events.records import BEGINNING
from coordination.messages.outage import Absence
from coordination.runs.records import RunStatus, TodoState

LOG_LIMIT_BYTES = 1024 * 1024
PIECE_BYTES = 64 * 1024
PIECES_OF_TAIL = 8
"""Least number of pieces in a tail. It is deleted piece by piece, so more pieces keep its size closer to the
limit.
"""
LAST_LINES, LONGEST_LINE = 6, 160
"""Lines of the end of an output that are shown with a failure, and characters of each."""


def piece_bytes(tail_bytes: int) -> int:
    return max(1, min(PIECE_BYTES, tail_bytes // PIECES_OF_TAIL))


def pieces_of(text: str, skipped: int, half: int) -> Iterator[tuple[str, int]]:
    """Cut a text into pieces, each with the number of bytes left out before it; a long text loses
    its middle.
    """
    data = text.encode(errors="replace")
    size = piece_bytes(half)
    if len(data) <= size:
        yield text, skipped
        return
    left_out = max(0, len(data) - 2 * half)
    head, tail = (data[:half], data[half + left_out :]) if left_out else (data, b"")
    for part, before in ((head, skipped), (tail, left_out)):
        for start in range(0, len(part), size):
            piece = part[start : start + size].decode(errors="replace")
            yield piece, before if start == 0 else 0


def shown(text: str) -> str:
    """Return the piece, cut where it is longer than any that coord writes: other programs can write to Redis
    too.
    """
    if len(text) <= 2 * PIECE_BYTES:
        return text
    left_out = len(text) - 2 * PIECE_BYTES
    return f"{text[:PIECE_BYTES]}{gap(left_out)}{text[-PIECE_BYTES:]}"


def gap(size: int, file: str = "", *, mid_line: bool = True) -> str:
    """Return the line that marks a gap."""
    where = f"; see the log file {file}" if file else ""
    return f"{chr(10) if mid_line else ''}[coord] {size:,} bytes left out here{where}\n"


def marked(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Yield the pieces, with a mark before the first one of each attempt but attempt 1. A mark is a line of
    its own, and part of the text of its piece.
    """
    before: dict[str, Piece] = {}
    for piece in pieces:
        last = before.get(piece.todo)
        before[piece.todo] = piece
        if piece.attempt == (last.attempt if last else 1):
            yield piece
            continue
        end = "\n" if last and not last.text.endswith("\n") else ""
        yield replace(piece, text=f"{end}[coord] attempt {piece.attempt}\n{piece.text}")


def prefixed(pieces: Iterable[Piece], todos: Collection[str]) -> Iterator[str]:
    """Yield `TODO-001 | its line`, each line as soon as it is complete."""
    width = max(map(len, todos), default=0)
    begun: dict[str, str] = {}
    for piece in pieces:
        *lines, begun[piece.todo] = (begun.get(piece.todo, "") + piece.text).split("\n")
        yield from (f"{piece.todo:<{width}} | {line}\n" for line in lines)
    yield from (f"{todo:<{width}} | {line}\n" for todo, line in begun.items() if line)


READ_AT_ONCE = 200
TICK_MS = 1000
UNDONE = (TodoState.COMPENSATED, TodoState.COMPENSATION_FAILED)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Output of one attempt; it may begin and end anywhere in a line."""

    at: tuple[int, int]
    """Its position among all pieces."""
    todo: str
    attempt: int
    text: str


@dataclass
class _Position:
    """Position up to which one log was read."""

    attempt: int = 0
    end: int = 0
    """Bytes of that attempt's output."""
    file: str = ""
    mid_line: bool = False

    def gap_before(self, fields: Mapping[str, str]) -> str:
        """Return the mark for what is missing before this entry, and move the position behind it."""
        attempt, at = _number(fields, "counted"), _number(fields, "at")
        if attempt != self.attempt:
            self.attempt, self.end, self.file, self.mid_line = attempt, 0, fields.get("file", ""), False
        missing, mid_line = at - self.end, self.mid_line
        self.end, self.mid_line = _number(fields, "end"), not fields.get("text", "").endswith("\n")
        return gap(missing, self.file, mid_line=mid_line) if missing > 0 else ""


class LogReader:
    """The logs of some todos of one run. `reader` must be a blocking client (Profile.READER)."""

    def __init__(self, reader: redis.Redis, keys: Keys, run_id: str, todos: Collection[str]) -> None:
        self._redis = reader
        self._keys = keys.run(run_id)
        self._todos = tuple(todos)
        ran_in = (
            reader.hmget(self._keys.facts, [f"{todo} run" for todo in self._todos]) if self._todos else []
        )
        # The run that executed a carried-over todo has its output; this run has that of its compensation.
        carried = {
            keys.run(run).log(todo): todo for todo, run in zip(self._todos, ran_in, strict=True) if run
        }
        self._todo_of = {self._keys.log(todo): todo for todo in self._todos} | carried
        self._read = dict.fromkeys(self._todo_of, BEGINNING)
        self._places = {log: _Position() for log in self._todo_of}

    def written(self) -> Iterator[Piece]:
        """Yield the pieces that exist and were not read before, oldest first."""
        return merge(*map(self._pages, self._todo_of), key=lambda piece: piece.at)

    def followed(self) -> Iterator[Piece]:
        """Yield existing and new pieces until all of these todos have ended. Redis may be unreachable for a
        while.
        """
        events = self._last_event()
        absence = Absence(self._redis, "the run continues when Redis is back; then read the log again")
        ended = False
        while not ended:
            absence.wait()
            with absence.outlived():
                # read first: a todo's log is complete before its state says that it has ended
                over = self._all_ended()
                yield from self.written()
                ended = over
                events = events if ended else self._wait(events)

    def _pages(self, log: str) -> Iterator[Piece]:
        while entries := self._redis.xrange(log, f"({self._read[log]}", count=READ_AT_ONCE):
            for entry, fields in entries:
                self._read[log] = entry
                at, _, n = entry.partition("-")
                text = self._places[log].gap_before(fields) + shown(fields.get("text", ""))
                attempt = _number(fields, "attempt")
                yield Piece(at=(int(at), int(n)), todo=self._todo_of[log], attempt=attempt, text=text)

    def _all_ended(self) -> bool:
        with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.hget(self._keys.meta, "status")
            pipeline.hmget(self._keys.state, self._todos)
            status, states = pipeline.execute()
        if status == RunStatus.ROLLING_BACK:  # an ended todo may still be undone
            return all(state in UNDONE for state in states)
        return all(TodoState(state).ended for state in states)

    def _last_event(self) -> str:
        newest = self._redis.xrevrange(self._keys.events, count=1)
        return newest[0][0] if newest else BEGINNING

    def _wait(self, events: str) -> str:
        """Wait for output or an event of the run; return the last event seen."""
        answer = self._redis.xread({**self._read, self._keys.events: events}, count=1, block=TICK_MS)
        seen = dict(answer).get(self._keys.events)
        return seen[-1][0] if seen else events


def _number(fields: Mapping[str, str], name: str) -> int:
    """Return the number, 0 if it is none: other programs can write to Redis too."""
    text = fields.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def last_lines(tail: str) -> list[str]:
    """Return the last lines of the output of a todo; none if the output was cut there."""
    lines = [line.rstrip() for line in tail.splitlines()]
    if any(line.startswith("[coord] output cut here") for line in lines):
        return []
    said = [line[:LONGEST_LINE] for line in lines if line and not line.startswith("[coord] ")]
    return said[-LAST_LINES:]
