"""The frames that a client may send, word for word."""

from __future__ import annotations

import json

import pytest

from coordination.gateway.frames import (
    Ack,
    BadFrame,
    Extend,
    Nack,
    OutgoingMessage,
    Position,
    Resume,
    Send,
    read,
)

KNOWN = '{"epoch": "17", "offset": 3, "trimmed": 0}'


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ('{"resume": null}', Resume(resume=None)),
        (f'{{"resume": {KNOWN}}}', Resume(resume=Position(epoch="17", offset=3, trimmed=0))),
        ('{"ack": "a/1"}', Ack(ack="a/1")),
        ('{"nack": "a/1"}', Nack(nack="a/1", why="")),
        ('{"nack": "a/1", "why": "no disk"}', Nack(nack="a/1", why="no disk")),
        ('{"extend": "a/1"}', Extend(extend="a/1")),
        (
            '{"send": {"to": "repo:b", "type": "t", "payload": {"a": [null]}, "seq": 1}}',
            Send(send=OutgoingMessage(to="repo:b", type="t", payload={"a": [None]}, seq=1)),
        ),
        (
            (
                '{"send": {"to": "repo:b", "type": "t", "payload": 1, "seq": 1, "ttl_s": 5, "priority": 2,'
                ' "reply_to": "agent:x"}}'
            ),
            Send(
                send=OutgoingMessage(
                    to="repo:b", type="t", payload=1, seq=1, ttl_s=5.0, priority=2, reply_to="agent:x"
                )
            ),
        ),
    ],
)
def test_a_frame_says_what_it_says(said: str, meant: object):
    assert read(said) == meant


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("", "JSON"),
        ("hello", "JSON"),
        ("[1]", "object"),
        ("{}", "has no known word"),
        ('{"hello": 1}', "has no known word"),
        ('{"ack": 1}', "ack needs text"),
        ('{"ack": null}', "ack needs text"),
        ('{"ack": "a", "nack": "a"}', "nack: unknown field"),
        ('{"ack": "a", "ack": "b"}', "twice"),
        ('{"ack": "a", "more": 1}', "more: unknown field"),
        ('{"nack": "a", "why": "%s"}' % ("x" * 2001), "why must not be longer"),
        ('{"resume": {"epoch": "17"}}', "resume.offset is missing"),
        ('{"resume": {"epoch": 17, "offset": 0, "trimmed": 0}}', "resume.epoch needs text"),
        ('{"resume": {"epoch": "17", "offset": -1, "trimmed": 0}}', "resume.offset must be at least 0"),
        ('{"resume": {"epoch": "17", "offset": true, "trimmed": 0}}', "resume.offset needs a whole number"),
        (
            '{"resume": {"epoch": "x", "offset": 0, "trimmed": 0}}',
            "resume.epoch is not written as it must be",
        ),
        ('{"send": {"to": "repo:b", "type": "t", "seq": 1}}', "send.payload is missing"),
        ('{"send": {"to": "repo:b", "type": "t", "payload": 1}}', "send.seq is missing"),
        ('{"send": {"to": "repo:b", "type": "t", "payload": NaN, "seq": 1}}', "NaN is not a JSON number"),
        (
            '{"send": {"to": "repo:b", "type": "t", "payload": 1, "seq": 1.5}}',
            "send.seq needs a whole number",
        ),
        (
            '{"send": {"to": "repo:b", "type": "t", "payload": 1, "seq": 9007199254740992}}',
            "send.seq must be less than",
        ),
        (
            '{"send": {"to": "repo:b", "type": "t", "payload": 1, "seq": 1, "ttl_s": 0}}',
            "send.ttl_s must be more than 0",
        ),
        (
            '{"send": {"to": "repo:b", "type": "t", "payload": 1, "seq": 1, "from": "repo:c"}}',
            "send.from: unknown field",
        ),
        (
            '{"send": {"to": "repo:b", "type": "t", "payload": 1, "seq": 1, "ttl_s": 1e300}}',
            "send.ttl_s must be at most",
        ),
        ("[" * 100_000, "JSON"),
        ('{"ack": "%s"}' % ("x" * 501), "ack must not be longer"),
        (r'{"ack": "\ud800"}', "ack is not text"),
        (r'{"extend": "\ud800"}', "extend is not text"),
        (r'{"nack": "a", "why": "\ud800"}', "why is not text"),
        (r'{"ack": "a", "\ud800": 1}', "a name is not text"),
    ],
)
def test_what_is_no_frame_is_refused_in_words(said: str, words: str):
    with pytest.raises(BadFrame) as refused:
        read(said)

    assert words in refused.value.message
    assert refused.value.hint


def test_what_is_refused_can_be_said_in_a_frame():
    with pytest.raises(BadFrame) as refused:
        read('{"ack": "%s' % ("x" * 10_000))

    assert len(json.dumps(refused.value.message)) < 500
