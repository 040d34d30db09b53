"""A piece of a log: what is left out is said in it, and where to go on."""

from __future__ import annotations

import pytest

from coordination.mcp.server import url_of
from coordination.mcp.tools.runs import Excerpt, excerpt
from coordination.operations.listening import Address

LOG = ["one\ntw", "o\nthree\n", "four\n"]


def cut(limit: int, offset: int | None = None) -> Excerpt:
    return excerpt("run", "TODO-001", LOG, limit=limit, offset=offset)


def test_what_fits_is_given_as_it_is():
    whole = cut(100)

    assert (whole.text, whole.offset, whole.end, whole.total) == ("one\ntwo\nthree\nfour\n", 0, 19, 19)


def test_the_end_begins_with_a_whole_line():
    tail = cut(12)

    assert tail.text == "[coord] 8 characters before this: offset=0\nthree\nfour\n"
    assert tail.end == tail.total


def test_a_long_line_is_cut_in_itself():
    assert excerpt("run", None, ["x" * 100], limit=10, offset=None).text.endswith("\n" + "x" * 10)


def test_pieces_follow_each_other_without_a_gap():
    offset, read = 0, ""
    while offset < 19:
        piece = cut(7, offset)
        assert piece.offset == offset
        read += "".join(LOG)[piece.offset : piece.end]
        offset = piece.end

    assert read == "".join(LOG)
    assert cut(7, 1000).text == "[coord] 19 characters before this: offset=0\n"


@pytest.mark.parametrize(
    ("host", "open_to_others", "url"),
    [
        ("127.0.0.1", False, "http://127.0.0.1:80/mcp"),
        ("localhost", False, "http://localhost:80/mcp"),
        ("::1", False, "http://[::1]:80/mcp"),
        ("0.0.0.0", True, "http://0.0.0.0:80/mcp"),
        ("build-7", True, "http://build-7:80/mcp"),
    ],
)
def test_an_address_that_others_can_reach_is_known(host: str, open_to_others: bool, url: str):
    address = Address(host=host, port=80)

    assert (address.open_to_others, url_of(address)) == (open_to_others, url)
