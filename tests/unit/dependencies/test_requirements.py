"""Requirements that cannot all be met: contradicting constraints, and cycles of repositories."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordination.dependencies.check import contradictions, cycles
from coordination.dependencies.constraints import (
    Rules,
    disjoint,
    read,
    read_semver,
    read_semver_range,
    semver_disjoint,
)
from coordination.models import Dependency, DependencyStatus, DependencyType
from tests.examples import examples

FEW = settings(max_examples=examples(100))
PRERELEASES = ("", "-0", "-alpha.1", "-rc.1", "-rc.1.0", "-rc.2", "-rc.2.0")
NPM_GRID = [f"{a}.{b}.{c}{pre}" for a, b, c in product(range(5), repeat=3) for pre in PRERELEASES]
# PEP 440 has versions between any two of these: the first ones right above and below each bound stand for
# them.
AROUND = (
    "",
    ".dev0",
    "a1.dev0",
    "a1",
    "a2.dev0",
    "rc1.dev0",
    "rc1",
    "rc2.dev0",
    "rc2",
    "rc3",
    ".post1",
    ".0.1",
)
PEP440_GRID = [f"{a}.{b}.{c}{suffix}" for a, b, c in product(range(5), repeat=3) for suffix in AROUND]

NUMBER = st.integers(0, 3).map(str)
RELEASE = st.tuples(NUMBER, NUMBER, NUMBER).map(".".join)
PARTIAL = st.lists(NUMBER, min_size=1, max_size=3).map(".".join)
NPM_VERSION = st.one_of(
    PARTIAL, st.tuples(RELEASE, st.sampled_from(["-alpha.1", "-rc.1", "-rc.2"])).map("".join)
)
NPM_BLOCK = st.tuples(st.sampled_from(["", "^", "~", ">", ">=", "<", "<=", "=", "!="]), NPM_VERSION).map(
    "".join
)
NPM_RANGE = st.lists(st.lists(NPM_BLOCK, min_size=1, max_size=2).map(" ".join), min_size=1, max_size=2).map(
    " || ".join
)
PEP440_VERSION = st.one_of(PARTIAL, st.tuples(RELEASE, st.sampled_from(["a1", "rc1", "rc2"])).map("".join))
PEP440_ONE = st.one_of(
    st.tuples(st.sampled_from([">", ">=", "<", "<=", "==", "!="]), PEP440_VERSION).map("".join),
    st.tuples(st.sampled_from(["==", "!="]), PARTIAL).map(lambda p: f"{p[0]}{p[1]}.*"),
    RELEASE.map("~={}".format),
)
PEP440_RANGE = st.one_of(
    st.lists(PEP440_ONE, min_size=1, max_size=2).map(",".join), PARTIAL.map("^{}".format)
)


def needs(
    provider: str, *constraints: str, status: DependencyStatus = DependencyStatus.UNKNOWN
) -> list[Dependency]:
    return [
        Dependency(id=f"D{n}", consumer=f"c{n}", provider=provider, version_constraint=text, status=status)
        for n, text in enumerate(constraints)
    ]


def told(*constraints: str, places: dict[str, Path | None] | None = None) -> list[tuple[str, ...]]:
    found = contradictions(needs("lib", *constraints), places)
    return [tuple(demand.version_constraint for demand in c.demands) for c in found]


@FEW
@given(st.lists(NPM_RANGE, min_size=1, max_size=3))
def test_semver_ranges_are_disjoint_exactly_where_a_grid_of_versions_finds_none_in_all(texts: list[str]):
    ranges = tuple(map(read_semver_range, texts))

    in_all = [v for v in map(read_semver, NPM_GRID) if all(r.contains(v) for r in ranges)]

    assert semver_disjoint(ranges) is not bool(in_all)


@FEW
@given(st.lists(PEP440_RANGE, min_size=1, max_size=3))
def test_pep_440_ranges_are_disjoint_exactly_where_a_grid_of_versions_finds_none_in_all(texts: list[str]):
    allowed = [read(text, Rules.PYTHON) for text in texts]

    in_all = [v for v in PEP440_GRID if all(a.admits(v) for a in allowed)]

    assert disjoint(allowed) is not bool(in_all)


@FEW
@given(st.lists(NPM_RANGE, min_size=1, max_size=5))
def test_a_contradiction_is_found_where_there_is_one_and_none_of_its_demands_can_be_left_out(
    texts: list[str],
):
    with TemporaryDirectory() as folder:
        (Path(folder) / "package.json").write_text("{}")
        found = told(*texts, places={"lib": Path(folder)})

    assert bool(found) is semver_disjoint(tuple(map(read_semver_range, texts)))
    for demands in found:
        assert semver_disjoint(tuple(map(read_semver_range, demands)))
        for left_out in demands:
            rest = tuple(read_semver_range(text) for text in demands if text != left_out)
            assert not rest or not semver_disjoint(rest)


@pytest.mark.parametrize(
    ("constraints", "wanted"),
    [
        ([">=2", "^1.2"], [(">=2", "^1.2")]),
        ([">=1", "<3", "~=2.1"], []),
        ([">=2", "<1", ">=1.5", ">= 2"], [(">=2", "<1"), ("<1", ">=1.5")]),
        ([">2,<1", ">=1"], [(">2,<1",)]),
        (["1.x || 3.x", "1.x || 2.x", "2.x || 3.x"], [("1.x || 3.x", "1.x || 2.x", "2.x || 3.x")]),
        (["latest", ">=2"], []),
    ],
)
def test_the_fewest_that_contradict_each_other_are_named(
    constraints: list[str], wanted: list[tuple[str, ...]]
):
    assert told(*constraints) == wanted


def test_the_providers_language_says_what_a_bare_version_means(tmp_path: Path):
    crate, package = tmp_path / "crate", tmp_path / "package"
    for folder, manifest in ((crate, "Cargo.toml"), (package, "package.json")):
        folder.mkdir()
        (folder / manifest).write_text('{"version": "1.2.0"}' if manifest.endswith("json") else "")

    (package / "pyproject.toml").write_text("[tool.ruff]")  # a Python tool that is used there

    assert told("1.2.0", "1.3.0", places={"lib": crate}) == []
    assert told("1.2.0", "1.3.0", places={"lib": package}) == [("1.2.0", "1.3.0")]


def test_what_is_deprecated_demands_nothing_and_providers_are_judged_apart():
    deprecated = needs("lib", "<1", status=DependencyStatus.DEPRECATED)

    assert contradictions([*needs("lib", ">=2"), *deprecated, *needs("other", "<1")]) == ()


def test_a_contradiction_reads_like_a_sentence():
    found = contradictions(needs("lib", ">=2", "<1"))

    assert str(found[0]) == "no version of lib satisfies all: c0 wants >=2 (D0), c1 wants <1 (D1)"


def steps_between(*steps: str, status: DependencyStatus = DependencyStatus.UNKNOWN) -> list[Dependency]:
    """`a>b` at run time, `a>b:test` otherwise."""
    made = []
    for step in steps:
        way, _, type_ = step.partition(":")
        consumer, _, provider = way.partition(">")
        kind = DependencyType(type_ or "runtime")
        made.append(
            Dependency(
                id=f"D-{consumer}-{provider}", consumer=consumer, provider=provider, type=kind, status=status
            )
        )
    return made


def cycles_of(*steps: str) -> list[str]:
    return [str(cycle).partition(" (")[0] for cycle in cycles(steps_between(*steps))]


def test_what_can_be_ordered_has_none():
    assert cycles_of("a>b", "b>c", "a>c", "d>c") == []


def test_a_ring_is_named_from_the_first_that_the_file_has():
    assert cycles_of("x>a", "b>c", "c>a", "a>b") == ["a → b → c → a, at run time"]


def test_a_ring_that_a_test_closes_is_told_apart():
    assert cycles_of("a>b", "b>a:test") == ["a → b → a, through runtime, test"]
    assert cycles_of("a>b", "b>a:mcp") == ["a → b → a, at run time"]


def test_those_at_run_time_come_first_and_are_told_once():
    found = cycles_of("p>q", "q>p:development", "a>b", "b>a", "b>a:test")

    assert found == ["a → b → a, at run time", "p → q → p, through runtime, development"]


def test_a_repository_that_needs_itself_is_one():
    assert cycles_of("a>a") == ["a → a, at run time"]


def test_every_repository_on_a_ring_stands_in_one():
    found = cycles_of("a>b", "b>a", "b>c", "c>b")

    assert found == ["a → b → a, at run time", "c → b → c, at run time"]


def test_what_is_deprecated_counts_no_more():
    assert cycles([*steps_between("a>b"), *steps_between("b>a", status=DependencyStatus.DEPRECATED)]) == ()
