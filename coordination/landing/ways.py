"""The ways of landing: what each needs and supports, and the one refusal of what a way does not support."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from coordination.errors import PlanRefused
from coordination.forges.locate import locate
from coordination.models import LandRules, Method, Repo, Via
from coordination.runs.run_kinds import LAND, REVERT
from coordination.text import listed


class Feature(StrEnum):
    """A method, a rule of a plan or an option of a landing, as people write it."""

    MERGE = "method: merge"
    SQUASH = "method: squash"
    FF = "method: ff"
    REBASE = "method: rebase"
    ATOMIC_PLAN = "atomic: plan"
    ATOMIC_WAVE = "atomic: wave"
    ATOMIC_REPO = "atomic: repo"
    WAVES = "waves"
    SOAK = "soak"
    CHECKS = "qa"
    APPROVAL = "approvals: 1"
    APPROVALS = "approvals: 2"
    """Two or more."""
    AFTER_UPSTREAM = "after_upstream"
    WHEN_READY = "--when-ready"
    REPAIR = "repair"


_EVERYWHERE = frozenset(Feature) - {
    Feature.FF,
    Feature.REBASE,
    Feature.APPROVALS,
    Feature.AFTER_UPSTREAM,
    Feature.WHEN_READY,
    Feature.REPAIR,
}


@dataclass(frozen=True, kw_only=True)
class Way:
    """The needs of a way, and the features that it supports."""

    needs_url: bool = False
    needs_forge: bool = False
    """The forge of the repository must be known."""
    one_host: bool = False
    """It reaches the checkout of one host only."""
    supports: frozenset[Feature]


WAYS: Mapping[Via, Way] = {
    Via.PR: Way(
        needs_url=True,
        needs_forge=True,
        supports=_EVERYWHERE
        | {
            Feature.REBASE,
            Feature.APPROVALS,
            Feature.AFTER_UPSTREAM,
            Feature.WHEN_READY,
            Feature.REPAIR,
        },
    ),
    Via.PUSH: Way(needs_url=True, supports=_EVERYWHERE | {Feature.FF}),
    Via.LOCAL: Way(one_host=True, supports=_EVERYWHERE | {Feature.FF}),
}

OF_REQUESTS = frozenset({Feature.AFTER_UPSTREAM, Feature.WHEN_READY, Feature.REPAIR})
"""Features that concern only the repositories which land by pull requests: one such repository is enough."""
APART = (Feature.WHEN_READY, Feature.ATOMIC_REPO)
"""Features that no way supports together: with `atomic: repo` a landing takes its locks first, and must not
keep them during reviews.
"""
_INSTEAD = {
    Feature.APPROVALS: "write approvals: 1",
    Feature.AFTER_UPSTREAM: "remove after_upstream",
    Feature.WHEN_READY: "leave --when-ready out",
    Feature.REPAIR: "remove repair",
}


def usual_way(repo: Repo, forges: Collection[str]) -> Via:
    """Return the default way of a repository, if neither the plan nor an option names one.

    `forges`: the repositories for whose forge this machine has a token.
    """
    if repo.name in forges:
        return Via.PR
    return Via.PUSH if repo.url else Via.LOCAL


def features_of(method: Method, rules: LandRules, *, when_ready: bool) -> tuple[Feature, ...]:
    """Return the features that a landing asks for."""
    waves = rules.waves
    rests = {
        Feature.WAVES: waves,
        Feature.SOAK: waves and (waves.soak or any(wave.soak for wave in waves.order)),
        Feature.CHECKS: rules.qa is not False,
        Feature.APPROVAL: rules.approvals == 1,
        Feature.APPROVALS: rules.approvals > 1,
        Feature.AFTER_UPSTREAM: rules.after_upstream,
        Feature.WHEN_READY: when_ready,
        Feature.REPAIR: rules.repair,
    }
    asked = (feature for feature, is_asked in rests.items() if is_asked)
    return (Feature(f"method: {method}"), Feature(f"atomic: {rules.unit}"), *asked)


def refuse_unsupported(
    name: str, features: Collection[Feature], ways: Collection[Via], operation: str = LAND
) -> None:
    """Raise PlanRefused for a feature that a way of the landing or revert does not support."""
    does = "be reverted" if operation == REVERT else "land"
    for feature in features:
        without = sorted(way.value for way in ways if feature not in WAYS[way].supports)
        if without and (feature not in OF_REQUESTS or len(without) == len(ways)):
            others = [way.value for way in Via if feature in WAYS[way].supports]
            raise PlanRefused(
                f"{name} cannot {does} by {listed(without)} with {feature}: only {listed(others)} "
                f"{'supports' if len(others) == 1 else 'support'} it",
                _next_step(feature, ways, operation),
            )
    if set(features).issuperset(APART):
        first, second = APART
        raise PlanRefused(
            f"{name} cannot {does} with {first} and {second}: it would keep its locks during reviews",
            f"leave {first} out, and name the repositories that are ready: --repo REPO",
        )


def refuse_place(repo: Repo, via: Via, hosts: Collection[str]) -> None:
    """Raise PlanRefused if the repository lacks what a way needs. `hosts`: those with a checkout of it."""
    way, name = WAYS[via], repo.name
    if way.needs_url and not repo.url:
        raise PlanRefused(
            f"{name} has no url to push to", f"add `url` to {name} in the file; or land it with --via local"
        )
    if way.needs_forge:
        locate(repo)
    if way.one_host and len(set(hosts)) > 1:
        raise PlanRefused(
            f"{name} has checkouts on {listed(sorted(set(hosts)))}, and a local landing reaches only one",
            f"add `url` to {name} in the file, and land it with --via push",
        )


def _next_step(feature: Feature, ways: Collection[Via], operation: str) -> str:
    if feature not in _INSTEAD:
        common = [one for one in Method if all(f"method: {one}" in WAYS[way].supports for way in ways)]
        return f"take another one: --method {listed(common)}"
    return _INSTEAD[feature] + ("" if operation == REVERT else "; or land it with --via pr")
