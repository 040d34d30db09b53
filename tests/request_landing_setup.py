"""A repository whose change set lands by a pull request at a test forge, for attempts of its todos."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from coordination.changes.requests.access import ForgeAccess
from coordination.credentials.records import Purpose
from coordination.credentials.references import parse
from coordination.credentials.store import CredentialStore, credentials_file
from coordination.models import OWN_BRANCHES, LandAction, LandStep, Repo, RequestText, RevertAction, Via
from coordination.runs.store import RunStore
from coordination.settings import Settings
from tests.forge.records import Project, Request
from tests.forge.server import TestForge
from tests.landing_setup import Place
from tests.testbed import git
from workers.landing.carry_out import carry_out
from workers.landing.todo import FORGE_PAUSE
from workers.outcome import AttemptOutcome, OutcomeKind


@dataclass(kw_only=True)
class Proposal(Place):
    """A place whose change set lands by a pull request."""

    at: TestForge
    project: Project
    url: str
    store: RunStore

    @property
    def target(self) -> Path:
        return self.project.bare.path

    @property
    def repo(self) -> Repo:
        forge = {"type": self.at.dialect.name, "api": self.at.api}
        return Repo.model_validate({"name": "r", "url": self.url, "forge": forge})

    def record(self, json: str) -> None:
        super().record(json)
        if '"commit"' in json:
            self.dies("recorded")

    def forges(self, prefix: str = OWN_BRANCHES) -> ForgeAccess:
        settings, state = Settings(forge_budget=1_000_000), self.folder / "state"
        return ForgeAccess(self.store, settings, state, patience=FORGE_PAUSE, branch_prefix=prefix)

    def action(self, step: LandStep = LandStep.LAND, **more: Any) -> LandAction:
        facts = {"type": "land", "step": step, "change_set": "P", "tip": self.tip, "via": Via.PR}
        return LandAction.model_validate(
            {**facts, "title": "Land P", "request": RequestText(title="a plan"), **more}
        )

    def check(self, **more: Any) -> AttemptOutcome:
        return self.take(LandStep.CHECK, **more)

    def land(self, **more: Any) -> AttemptOutcome:
        return self.take(LandStep.LAND, **more)

    def take(self, step: LandStep, *, by: dict[str, Any] | None = None, **more: Any) -> AttemptOutcome:
        """Carry out a todo with this step; `by`: other functions of its worker."""
        todo = self.todo
        for name, function in (by or {}).items():
            setattr(todo, name, function)
        return carry_out(todo, self.action(step, **more))

    def revert(self, output: str | None = None, **more: Any) -> AttemptOutcome:
        """Carry out a revert todo; with `output`, the compensation of the todo that has told it."""
        own: dict[str, Any] = {}
        if output is None and self.landed:
            own = {"commit": self.landed.commit, "before": self.landed.tree_before}
        facts = {"type": "revert", "change_set": "P", "via": Via.PR, "title": "Revert P", "tip": self.tip}
        return carry_out(self.todo, RevertAction.model_validate({**facts, **own, **more}), output)

    @property
    def proposed(self) -> Request:
        return self.project.requests[-1]

    def move_base(self, **files: str) -> None:
        self.project.bare.write("main", files or {"elsewhere": "x\n"}, "By a person")

    def main(self, what: str = "") -> str:
        return git(self.target, "rev-parse", f"main{what}")


@contextmanager
def proposal(
    forge: TestForge, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Proposal]:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "Test")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "test@localhost")
    forge.core.computes_at_once = True
    token, secret = forge.token("coord"), tmp_path / "token"
    secret.write_text(token)
    secret.chmod(0o600)
    reference = parse(f"file:{secret}")
    CredentialStore(credentials_file()).add("forge", reference, purposes=[Purpose.PR], hosts=["127.0.0.1"])
    seed = Place(tmp_path, Via.PR)
    seed.create()
    project = forge.create_project("acme/r", seed=seed.checkout)
    url = forge.url("acme/r", f"coord:{token}")
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        found = Proposal(
            tmp_path, Via.PR, at=forge, project=project, url=url, store=RunStore(client, "test"),
            tip=seed.tip, base=seed.base, now=datetime.now(UTC),
        )  # fmt: skip
        yield found


def ends(outcome: AttemptOutcome, kind: OutcomeKind, *words: str) -> AttemptOutcome:
    assert outcome.kind is kind, outcome.error
    assert all(word in outcome.error for word in words), outcome.error
    return outcome
