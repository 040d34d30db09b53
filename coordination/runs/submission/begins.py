"""The commits at which a run begins, where these are not the base branches': those of a change set, or those
at which a run has left its repositories. Such a run builds on that work and adds nothing to it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from coordination.backend.keys import tip_field
from coordination.runs.brief import RunBrief
from coordination.runs.change_sets.records import ChangeSet
from coordination.runs.store import RunStore
from coordination.runs.submission.carry import read_carry
from coordination.runs.submission.draft import HOST, Draft


@dataclass(frozen=True, kw_only=True)
class Begins:
    """Each mapping has a repository as key; one without a tip begins at its base branch."""

    runs: tuple[str, ...] = ()
    """The runs that made the work, newest first."""
    tips: Mapping[str, str] = field(default_factory=dict)
    signed: Mapping[str, str] = field(default_factory=dict)
    """The signed result that states the tip."""
    hosts: Mapping[str, str] = field(default_factory=dict)
    """The only host that may work there."""
    bundles: Mapping[str, str] = field(default_factory=dict)
    """The key of the commits for other hosts."""
    change_set: str = ""
    """The change set that has the tips; empty where a run without one has them."""

    def only(self, repos: Collection[str]) -> Begins:
        """Return it for these repositories."""
        return Begins(
            runs=self.runs,
            tips={repo: tip for repo, tip in self.tips.items() if repo in repos},
            signed={repo: text for repo, text in self.signed.items() if repo in repos},
            hosts={repo: host for repo, host in self.hosts.items() if repo in repos},
            bundles={repo: key for repo, key in self.bundles.items() if repo in repos},
            change_set=self.change_set,
        )

    def put_into(self, brief: RunBrief) -> RunBrief:
        """Return the brief with the commits that its run takes up."""
        carried = {
            "carried_from": self.runs,
            "carried_tips": dict(self.tips),
            "begins_with": self.change_set,
        }
        return brief.model_copy(update=carried) if self.runs or self.tips else brief

    def write(self, draft: Draft) -> None:
        """Write the tips into a draft, with the results that state them, and the commits for other hosts."""
        draft.set(draft.keys.tips, self.tips)
        draft.set(draft.keys.results, {tip_field(repo): text for repo, text in self.signed.items() if text})
        draft.copy_bundles(self.bundles)


AT_BASE = Begins()


def at_change_set(store: RunStore, change_set: ChangeSet) -> Begins:
    """Return the tips of a change set, as far as they have not landed."""
    carry = read_carry(store, change_set, {}, change_set.open)
    return Begins(
        runs=change_set.runs,
        tips=carry.tips,
        signed={repo: carry.results.get(tip_field(repo), "") for repo in carry.tips},
        hosts=carry.pins,
        bundles=carry.bundles,
        change_set=change_set.id,
    )


def at_run(store: RunStore, run_id: str) -> Begins:
    """Return the commits at which a run has left its repositories."""
    keys = store.keys.run(run_id)
    with store.redis.pipeline(transaction=True) as pipeline:
        pipeline.hgetall(keys.tips)
        pipeline.hgetall(keys.meta)
        tips, meta = pipeline.execute()
    repos = list(tips)
    signed = store.redis.hmget(keys.results, [tip_field(repo) for repo in repos]) if repos else []
    brief = store.brief(run_id)
    return Begins(
        runs=(run_id, *brief.carried_from),
        tips=tips,
        signed={repo: text for repo, text in zip(repos, signed, strict=True) if text},
        hosts={name.removeprefix(HOST): host for name, host in meta.items() if name.startswith(HOST)},
        bundles={repo: keys.bundle(repo) for repo in repos},
        change_set=brief.change_set,
    )
