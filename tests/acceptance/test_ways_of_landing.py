"""Each way of landing supports what it declares, and refuses the rest before anything is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from coordination import Coord
from coordination.api import LandOptions
from coordination.errors import PlanRefused
from coordination.landing.ways import APART, WAYS, Feature
from coordination.models import Method, Via
from coordination.settings import Settings
from tests.change_sets import record
from tests.testbed import PLAN, Testbed

DONE = [{"id": "A", "repo": "lib", "status": "completed"}]
URL = "https://github.com/acme/lib"
CHAPTER = Path(__file__).parents[2] / "docs" / "landing.md"

RULES: Mapping[Feature, Mapping[str, Any]] = {
    Feature.ATOMIC_PLAN: {"atomic": "plan"},
    Feature.ATOMIC_WAVE: {"atomic": "wave", "waves": ["rest"]},
    Feature.ATOMIC_REPO: {"atomic": "repo"},
    Feature.WAVES: {"waves": ["rest"]},
    Feature.SOAK: {"waves": {"order": ["rest"], "soak": "1h"}},
    Feature.CHECKS: {"qa": True},
    Feature.APPROVAL: {"approvals": 1},
    Feature.APPROVALS: {"approvals": 2},
    Feature.AFTER_UPSTREAM: {"after_upstream": ["integration"]},
    Feature.REPAIR: {"repair": 1},
}
"""The field `land` of a plan that asks for the feature; a method or `--when-ready` is an option."""

Given = Callable[..., Coord]


@pytest.fixture
def given(testbed: Testbed) -> Iterator[Given]:
    """A plan with a change set in one repository, whose field `land` has these rules."""
    record(testbed.redis(), PLAN, "lib", namespace=Settings().namespace, todos="A")
    opened = list[Coord]()

    def write(**land: object) -> Coord:
        testbed.write(DONE, repos={"lib": {"url": URL, "qa": "true"}}, plan={"land": land})
        while opened:
            opened.pop().close()
        opened.append(Coord(testbed.file))
        return opened[0]

    yield write
    for coord in opened:
        coord.close()


def asked(given: Given, feature: Feature, via: Via, **land: object) -> tuple[Coord, LandOptions]:
    """Return a plan that asks for a feature, and the options of its landing."""
    coord = given(**{**RULES.get(feature, {}), **land})
    name, _, value = feature.partition(": ")
    method = Method(value) if name == "method" else None
    return coord, LandOptions(via=via, method=method, when_ready=feature is Feature.WHEN_READY)


@pytest.mark.parametrize("via", Via)
def test_a_way_takes_what_it_declares_and_refuses_the_rest(given: Given, via: Via) -> None:
    before = given().changes.list(PLAN)
    for feature in Feature:
        coord, options = asked(given, feature, via)
        if feature in WAYS[via].supports:
            assert coord.landings.prepare(PLAN, options).graph, f"{feature} by {via}"
            continue
        with pytest.raises(PlanRefused) as refused:
            coord.landings.land(PLAN, **{name: value for name, value in vars(options).items() if value})
        message, hint = refused.value.message, refused.value.hint
        assert f"by {via} with {feature}: only " in message
        assert hint.partition(": ")[0].partition(" ")[0] in ("take", "write", "remove", "leave")
        assert "\n" not in message + hint
        assert coord.runs.list() == []
    assert given().changes.list(PLAN) == before != ()


def test_each_method_rule_and_option_is_valid_on_some_way() -> None:
    assert frozenset[Feature]().union(*(way.supports for way in WAYS.values())) == set(Feature)
    assert WAYS.keys() == set(Via)


def test_two_features_that_exclude_each_other_are_refused_together(given: Given) -> None:
    option, rule = APART
    coord, options = asked(given, option, Via.PR, **RULES[rule])
    with pytest.raises(PlanRefused, match=f"with {option} and {rule}: ") as refused:
        coord.landings.prepare(PLAN, options)
    assert "--repo" in refused.value.hint


@pytest.mark.parametrize(
    ("via", "repo", "hint"),
    [
        (Via.PR, {"url": None}, "url"),
        (Via.PUSH, {"url": None}, "url"),
        (Via.PR, {"url": "/srv/lib.git"}, "forge"),
    ],
)
def test_a_way_refuses_a_repository_that_lacks_what_it_needs(
    given: Given, testbed: Testbed, via: Via, repo: dict[str, Any], hint: str
) -> None:
    given()
    testbed.write(DONE, repos={"lib": repo})
    done = testbed.coord("land", PLAN, "--yes", "--via", via)
    assert done.code == 2
    assert hint in done.err
    assert testbed.ok("list-runs", "--json").json == []


def test_where_some_repositories_land_by_requests_rules_of_requests_hold_for_these(
    given: Given, testbed: Testbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(testbed.folder / "config"))
    secret = testbed.folder / "token"
    secret.write_text("secret")
    secret.chmod(0o600)
    where = ("--purpose", "pr", "--host", "github.com", "--all")
    testbed.ok("credential", "add", "forge", f"file:{secret}", *where)
    record(testbed.redis(), PLAN, "app", namespace=Settings().namespace, todos="B")
    given()
    both = [*DONE, {"id": "B", "repo": "app", "status": "completed"}]
    testbed.write(both, repos={"lib": {"url": URL}, "app": {}}, plan={"land": {"after_upstream": ["it"]}})
    with Coord(testbed.file) as coord:
        found = coord.landings.prepare(PLAN, LandOptions(when_ready=True))
        assert {one.repo: one.via for one in found.landing.repos} == {"lib": Via.PR, "app": Via.LOCAL}
        for method, other in ((Method.FF, Via.PR), (Method.REBASE, Via.LOCAL)):
            with pytest.raises(PlanRefused, match=f"by {other} with method: {method}") as refused:
                coord.landings.prepare(PLAN, LandOptions(method=method))
            assert refused.value.hint == "take another one: --method merge, squash"


def test_the_chapter_names_the_ways_that_support_each_feature() -> None:
    table = CHAPTER.read_text().partition("| | `push` | `local` | `pr` |\n|---|---|---|---|\n")[2]
    rows = [re.findall(r"[^|]+", line) for line in table.partition("\n\n")[0].splitlines()]
    shown = {row[0].strip().strip("`"): [cell.strip() == "yes" for cell in row[1:]] for row in rows}
    ways = (Via.PUSH, Via.LOCAL, Via.PR)
    assert shown == {feature: [feature in WAYS[way].supports for way in ways] for feature in Feature}
