"""No form of a secret passes a mask, however a program splits, wraps or encodes it, and nothing else goes."""

from __future__ import annotations

import base64
import json
import textwrap
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coordination.credentials.masking import MASK, Masker, forms
from tests.examples import examples

TOKEN = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"
ODD = 'pä/ss "w+rd\\&%'
KEY = "-----BEGIN KEY-----\n" + "\n".join(f"b3BlbnNzaC1rZXktdjEAAAAABG5vbm{i}" for i in range(5)) + "\n"
SECRETS = (TOKEN, ODD, "hunter", KEY)

FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "url": lambda s: quote(s, safe=""),
    "url of a path": quote,
    "url of a form": quote_plus,
    "url in lower case": lambda s: "".join(
        quote(c, safe="").lower() if quote(c, safe="") != c else c for c in s
    ),
    "json": json.dumps,
    "json in utf-8": lambda s: json.dumps(s, ensure_ascii=False),
    "json in json": lambda s: json.dumps(json.dumps({"key": s})),
    "hex": lambda s: s.encode().hex(),
    "hex in capitals": lambda s: s.encode().hex().upper(),
    "wrapped": lambda s: "\r\n".join(s[i : i + 5] for i in range(0, len(s), 5)),
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 behind a letter": lambda s: base64.b64encode(b"x" + s.encode() + b"yz").decode(),
    "base64 behind two letters": lambda s: base64.b64encode(b"u:" + s.encode() + b"z").decode(),
    "base64 for urls": lambda s: base64.urlsafe_b64encode(b"?>" + s.encode()).decode(),
    "base64 in lines": lambda s: textwrap.fill(base64.b64encode(b"abc" * 20 + s.encode()).decode(), 20),
}


def fed(masker: Masker, data: bytes, sizes: list[int]) -> bytes:
    stream, passed, at = masker.stream(), b"", 0
    for size in sizes:
        passed += stream.feed(data[at : at + size])
        at += size
    return passed + stream.feed(data[at:]) + stream.end()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("secret", SECRETS, ids=["token", "odd", "short", "key"])
@settings(max_examples=examples(45))
@given(cuts=st.lists(st.integers(1, 30), max_size=40))
def test_a_secret_is_masked_in_each_form_wherever_the_output_is_split(
    secret: str, form: str, cuts: list[int]
):
    masker = Masker(SECRETS)
    printed = FORMS[form](secret)

    whole = masker.data(f"before {printed} after".encode())

    assert whole.startswith(b"before ")
    assert whole.endswith(b" after")
    assert whole.count(MASK) == 1
    assert len(whole) < len(b"before  after") + len(MASK) + 100
    assert fed(masker, f"before {printed} after".encode(), cuts) == whole
    flat = whole.translate(None, b"\r\n")
    assert not [needle for needle in forms(secret) if needle in flat]


@given(
    text=st.lists(st.sampled_from(["ab", "aba", "abab", "b", "\n", "hunter", "hun", "huntehunter", " "])),
    cuts=st.lists(st.integers(1, 5), max_size=30),
)
@example(text=["aba", "\n", "b", "abab"], cuts=[2, 5])
def test_secrets_that_repeat_and_overlap_are_masked_alike_in_one_piece_and_in_many(
    text: list[str], cuts: list[int]
):
    masker = Masker(("ababab", "hunter", "bababa1"))
    data = "".join(text).encode()

    whole = masker.data(data)

    assert fed(masker, data, cuts) == whole
    assert not [n for n in masker.needles if n in whole.translate(None, b"\r\n").replace(MASK, b"|")]


@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(1, 50), max_size=10))
def test_bytes_without_a_secret_pass_unchanged(data: bytes, cuts: list[int]):
    assert fed(Masker((TOKEN,)), data, cuts) == data


def test_what_is_held_back_is_bounded():
    masker = Masker(("abcabcabc" * 100,))
    stream, passed = masker.stream(), 0
    for piece in (b"abcabcabc" * 7000, b"a" + b"\n" * 64_000, b"\n" * 64_000):
        for _ in range(20):
            passed += len(stream.feed(piece))
            assert len(stream._held) <= masker.longest + 2048


def test_json_stays_json_when_numbers_keys_and_texts_are_secret():
    masker = Masker((TOKEN, "12345678"))
    value = {"n": 12345678, TOKEN: [f"x{TOKEN}y", True, None, 1.5], "s": {"inner": "plain"}}

    assert masker.json(value) == {"n": "***", "***": ["x***y", True, None, 1.5], "s": {"inner": "plain"}}
    assert masker.text("\udcff plain") == "\udcff plain"
    assert masker.text(f"\udcff {TOKEN}") == "\udcff ***"
