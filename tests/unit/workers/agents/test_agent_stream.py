"""Output of programs as items: records, lines of text, notes; memory stays bounded."""

from __future__ import annotations

import tracemalloc

import pytest

from workers.agents.stream import CUT_OFF, LONGEST, TOO_LONG, Item, JsonRecord, Stream, TextLine


def items(*chunks: bytes) -> list[Item]:
    stream = Stream()
    return [item for chunk in chunks for item in stream.feed(chunk)] + stream.end()


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (b'{"a": 1}\n', [JsonRecord({"a": 1})]),
        (b' {"a": 1}\r\n', [JsonRecord({"a": 1})]),
        (b'{"a": 1}', [JsonRecord({"a": 1})]),
        (b'{"a": "\xff"}\n', [JsonRecord({"a": "\ufffd"})]),
        (b'{"a": ', [CUT_OFF]),
        (b'{"a": \n', [TextLine('{"a": ')]),
        (b"[1]\n2\nx\xff\n\n", [TextLine("[1]"), TextLine("2"), TextLine("x\ufffd"), TextLine("")]),
        (b'{"a": ' + b"9" * 5000 + b"}", [CUT_OFF]),
        (b'{"a": ' + b"[" * 200_000 + b"\n", [TextLine('{"a": ' + "[" * 200_000)]),
        (b"", []),
    ],
)
def test_output_is_split(output: bytes, expected: list[Item]):
    assert items(output) == expected
    assert items(*(output[i : i + 1000] for i in range(0, len(output), 1000))) == expected


def test_a_line_that_is_too_long_is_dropped_with_one_note():
    long = b"x" * (LONGEST + 1)

    assert items(long + b'\n{"a": 1}\n') == [TOO_LONG, JsonRecord({"a": 1})]
    assert items(long[1:] + b"\n") == [TextLine("x" * LONGEST)]
    assert items(long[:LONGEST], b"xx", b"x\nnext") == [TOO_LONG, TextLine("next")]


def test_100_mb_without_a_newline_take_no_memory():
    stream, chunk = Stream(), b"x" * 65536
    tracemalloc.start()
    try:
        found = [item for _ in range(1600) for item in stream.feed(chunk)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert found + stream.end() == [TOO_LONG]
    assert peak < 3 * LONGEST
