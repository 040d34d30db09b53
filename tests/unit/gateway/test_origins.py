"""Which pages `--origin` can name: what a browser says of itself, and nothing else."""

from __future__ import annotations

import pytest

from coordination.errors import UsageError
from coordination.gateway.access import is_allowed_origin, origin_of


@pytest.mark.parametrize(
    "page", ["https://pages.example", "HTTPS://Pages.Example/", "https://pages.example:443/"]
)
def test_a_page_is_named_as_people_write_it(page: str):
    assert is_allowed_origin({"origin": "https://pages.example"}, [origin_of(page)])


def test_a_port_of_its_own_stays():
    assert origin_of("http://pages.example:8080") == "http://pages.example:8080"


@pytest.mark.parametrize(
    "page", ["", "localhost", "localhost:8080", "https://", "https://a/b", "https://a b", "null", "*"]
)
def test_what_no_browser_says_is_refused(page: str):
    with pytest.raises(UsageError, match="--origin"):
        origin_of(page)
