"""Tables on a terminal of 80 columns: no line is longer, and no word is broken that is not long."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

import click
import pytest
from rich.cells import cell_len

from coordination.locks import LockManager, Owner
from coordination.services.host import ServiceHost
from tests.forge_sites import Site, site
from tests.terminals import on_terminal
from tests.testbed import PLAN, Testbed

NAMES = ("payments-api", "payments-web", "customer-portal")
TASK = "Raise the floor of every repository that still says 3.9, and tell the people that use it"
LONG_WORD = 20
SERVICE = {
    "name": "exchange-rates",
    "repo": "payments-api",
    "command": "exec sleep 600",
    "required": True,
}
LISTS = {
    "land": ("land", PLAN, "--dry-run"),
    "runs": ("list-runs",),
    "locks": ("lock", "list"),
    "graph": ("plan", "graph", PLAN),
    "events": ("history", "search"),
    "services": ("service", "list"),
    "repositories": ("repo", "list"),
    "requests": ("pr", "list"),
    "changes": ("changes",),
    "todos": ("list-todos",),
    "plans": ("list-plans",),
}


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Open requests with news, a service, a lock that is held and waited for."""
    testbed, forges = Testbed(tmp_path_factory.mktemp("narrow")), tmp_path_factory.mktemp("forge")
    with site(testbed, forges, "github", NAMES, task=TASK, services=[SERVICE]) as made:
        forge = made.forge
        testbed.ok("pr", "create", PLAN)
        for name, state in (("payments-api", "failure"), ("payments-web", "success")):
            forge.check(made.projects[name], made.request(name).sha, "integration tests", state, run=False)
        made.approve("customer-portal")
        testbed.ok("pr", "list")
        owner = Owner(host="anvil.example.com", pid=31_512, started="then", thread=12, label="nightly deploy")
        locks = LockManager(testbed.redis(), "coord", owner=owner)
        locks.acquire("deploy-to-production", ttl=timedelta(minutes=10), keep=False)
        yield made
    ServiceHost(testbed.state).stop_all()
    testbed.end()


@pytest.mark.parametrize("words", LISTS.values(), ids=LISTS)
def test_a_list_fits_80_columns_and_breaks_no_word(at: Site, words: tuple[str, ...]) -> None:
    testbed, code = at.testbed, 3 if "land" in words else 0  # a check is red
    config = str(testbed.folder / "config")
    shown = click.unstyle(on_terminal(testbed, *words, code=code, XDG_CONFIG_HOME=config))
    piped = testbed.coord(*words)
    whole = set((piped.out + piped.err).split())
    long = [word for word in whole if len(word) >= LONG_WORD]

    lines = [line for line in shown.splitlines() if not line.startswith("✗")]
    assert [line for line in lines if cell_len(line) > 80] == []
    words_shown = {word.removesuffix("…") for word in shown.split() if not re.search(r"\d", word)}
    assert [one for one in words_shown - whole if not any(one in word for word in long)] == []
