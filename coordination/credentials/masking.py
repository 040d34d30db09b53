"""Replaces secrets in the output of programs, as they are and in encoded forms.

Forms: the secret itself, each of its lines, URL-encoded, escaped as in JSON (also twice), in hexadecimal, and
in base64 at each of the three places at which it can begin in a group of four. Line ends are skipped while
comparing, so a secret that is wrapped over lines is found, too.

A stream is masked piece by piece: a `StreamMask` holds back the end of a piece that may be the beginning of
a secret, often one character, at most the length of the longest form, until the next piece.

Each form is searched by `bytes.find`. Measured on 2 shared cores with 5 secrets (63 forms): 115 MB/s;
one regular expression over all forms takes four times as long (`benchmarks/masking.py`).
"""

from __future__ import annotations

import base64
import json
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any
from urllib.parse import quote, quote_plus

from coordination.models import HIDDEN

MASK = HIDDEN.encode()
SHORTEST = 6
"""Bytes of the shortest form; shorter ones occur in any text."""
MOST_LINES = 100
"""Number of lines of a secret that are searched separately: the longest ones."""
HELD_LINE_ENDS = 1024
"""Maximum number of line ends within a secret; without it a stream could hold back any amount."""
_LINE_ENDS = re.compile(rb"[\r\n]+")
_SAFE = ("", "/", "!'()*~", "-_.!~*'()/:@&=+$,;")
"""Characters that libraries do not encode in URLs, in addition to letters and digits."""

Span = tuple[int, int]


def forms(secret: str) -> set[bytes]:
    """Return all forms of a secret to search for, without line ends."""
    raw = secret.encode("utf-8", "surrogateescape")
    found = {raw, raw.hex().encode(), raw.hex().upper().encode()}
    for safe in _SAFE:
        encoded = quote(raw, safe=safe)
        found |= {encoded.encode(), re.sub("%..", lambda two: two[0].lower(), encoded).encode()}
    found.add(quote_plus(raw).encode())
    for ascii_only in (True, False):
        once = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        twice = json.dumps(once, ensure_ascii=ascii_only)[1:-1]
        for escaped in (once, once.replace("/", "\\/"), twice):
            found.add(escaped.encode("utf-8", "surrogateescape"))
    found.update(_base64_forms(raw))
    lines = sorted({line.strip() for line in raw.splitlines()}, key=len, reverse=True)
    found.update(lines[:MOST_LINES])
    compact = {_compact(form) for form in found}
    return {form for form in compact if len(form) >= SHORTEST}


def _base64_forms(raw: bytes) -> Iterator[bytes]:
    """Yield the base64 characters that encode only bits of the secret, at the three alignments; also up to
    the end, for a secret that is followed by nothing or by a line end.
    """
    for before in range(3):
        bits = 8 * before, 8 * (before + len(raw))
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            first = -(-bits[0] // 6)
            yield encode(bytes(before) + raw)[first : bits[1] // 6]
            yield encode(bytes(before) + raw)[first:]
            yield encode(bytes(before) + raw + b"\n")[first:]


def _grouped(needles: Iterable[bytes]) -> list[tuple[bytes, tuple[bytes, ...]]]:
    """Return groups of forms: one that begins with no other form, and the forms that begin with it, longest
    first. If the first is not found, none of the group is.
    """
    groups: dict[bytes, tuple[bytes, ...]] = {}
    for needle in sorted(needles, key=len):
        first = next((form for form in groups if needle.startswith(form)), None)
        if first is None:
            groups[needle] = ()
        else:
            groups[first] = (needle, *groups[first])
    return list(groups.items())


def _compact(data: bytes) -> bytes:
    return data.translate(None, b"\r\n")


class Masker:
    """Masks the given secrets; without secrets it changes nothing."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        found = set[bytes]().union(*map(forms, secrets))
        self.needles = tuple(sorted(found, key=lambda form: (-len(form), form)))
        self.longest = max(map(len, self.needles), default=0)
        self._sought = _grouped(self.needles)

    def stream(self) -> StreamMask:
        return StreamMask(self)

    def data(self, data: bytes) -> bytes:
        """Return the data without secrets."""
        stream = self.stream()
        return stream.feed(data) + stream.end()

    def text(self, text: str) -> str:
        """Return the text without secrets."""
        if not self.needles:
            return text
        data = text.encode("utf-8", "surrogatepass")
        return text if (masked := self.data(data)) == data else masked.decode("utf-8", "surrogatepass")

    def json(self, value: Any) -> Any:
        """Return a JSON value without secrets in its texts, keys and numbers."""
        if not self.needles:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key): self.json(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.json(inner) for inner in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value if self.text(written := json.dumps(value)) == written else HIDDEN
        return value

    def spans(self, compact: bytes) -> list[Span]:
        """Return the places of forms in data without line ends, in order; overlapping places are joined."""
        found: list[Span] = []
        for shortest, longer in self._sought:
            at = compact.find(shortest)
            while at >= 0:
                needle = next((form for form in longer if compact.startswith(form, at)), shortest)
                found.append((at, at + len(needle)))
                at = compact.find(shortest, at + 1)
        found.sort()
        joined: list[Span] = []
        for start, end in found:
            if joined and start < joined[-1][1]:
                joined[-1] = joined[-1][0], max(end, joined[-1][1])
            else:
                joined.append((start, end))
        return joined

    def begun(self, compact: bytes) -> int:
        """Return the length of the longest tail of the data that is the beginning of a form."""
        longest = 0
        for needle in self.needles:
            if len(needle) <= longest + 1:
                break
            tail = compact[-(len(needle) - 1) :]
            at = tail.find(needle[:1])
            while 0 <= at < len(tail) - longest:
                if needle.startswith(tail[at:]):
                    longest = len(tail) - at
                    break
                at = tail.find(needle[:1], at + 1)
        return longest


class StreamMask:
    """Masks a stream: `feed` returns the data that is certainly complete, `end` the rest."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._held = b""
        self._covered = 0
        """Number of bytes at the beginning of the held data, without line ends, that a written mask covers.
        """

    def feed(self, data: bytes) -> bytes:
        if not self._masker.needles:
            return data
        return self._pass_on(self._held + data, final=False)

    def end(self) -> bytes:
        """Return the masked rest; the next piece begins another stream."""
        return self._pass_on(self._held, final=True)

    def _pass_on(self, data: bytes, *, final: bool) -> bytes:
        compact = _compact(data)
        spans = self._masker.spans(compact)
        held = 0 if final else self._masker.begun(compact)
        cut = _cut(data, held)
        if len(data) - cut > held + HELD_LINE_ENDS:
            held, cut = 0, len(data)
        passed = self._masked(data, compact, spans, len(compact) - held, cut)
        self._held = data[cut:]
        return passed

    def _masked(self, data: bytes, compact: bytes, spans: list[Span], limit: int, cut: int) -> bytes:
        """Return the data before `cut` (`limit` without line ends) with masks in place of the spans."""
        covered = self._covered
        self._covered = max(0, covered - limit)
        if not spans and not covered:
            return data[:cut]
        where = _Positions(data, same=len(compact) == len(data))
        pieces, done = list[bytes](), where.after(covered)
        for start, end in spans:
            if start >= limit:
                break
            if not (start < covered):  # else a mask that was written before covers it
                pieces += (data[done : where.of(start)], MASK)
            done = max(done, where.after(end) if end <= limit else cut)
            self._covered = max(self._covered, end - limit)
        pieces.append(data[done:cut])
        return b"".join(pieces)


def _cut(data: bytes, held: int) -> int:
    """Return the position at which the last `held` bytes, not counting line ends, begin."""
    at = len(data)
    while held:
        at -= 1
        held -= data[at] not in b"\r\n"
    return at


class _Positions:
    """Turns positions in data without line ends into positions in the data."""

    def __init__(self, data: bytes, *, same: bool) -> None:
        runs = [] if same else [found.span() for found in _LINE_ENDS.finditer(data)]
        self._removed = [0, *accumulate(end - start for start, end in runs)]
        self._at = [start - removed for (start, _), removed in zip(runs, self._removed, strict=False)]

    def of(self, position: int) -> int:
        return position + self._removed[bisect_right(self._at, position)]

    def after(self, end: int) -> int:
        """Return the position behind the byte before `end`."""
        return self.of(end - 1) + 1 if end else 0
