"""Attempts of the real programs of agents (`make agent-tools`) in a sandbox, against a scripted model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordination.models import AgentKind
from coordination.runs.records import WaitReason
from coordination.settings import Settings
from tests.agents import model
from tests.agents.tools import FOLDER, INSTALLED
from tests.attempts import RUN, Bench
from tests.sandboxes import needs_bubblewrap
from tests.testbed import git
from workers.outcome import AttemptOutcome, OutcomeKind

pytestmark = [pytest.mark.long, needs_bubblewrap]
KINDS = (AgentKind.CLAUDE, AgentKind.CODEX, AgentKind.OPENCODE, AgentKind.COPILOT)
KEY = "key-of-the-test-0123456789"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with model.serving() as served:
        yield served


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A repository, and a user without a login."""
    bench = Bench(tmp_path, context={"predecessors": []})
    bench.make_repository()
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", f"{FOLDER}{os.pathsep}{os.environ['PATH']}")
    return bench


def attempt(bench: Bench, kind: AgentKind, url: str, **action: Any) -> AttemptOutcome:
    if INSTALLED[kind] is None:
        pytest.skip(f"{kind} is not installed: make agent-tools")
    provider = f'model_providers.test={{name="test",base_url="{url}/v1",wire_api="responses",env_key="KEY"}}'
    options: dict[AgentKind, dict[str, Any]] = {
        AgentKind.CODEX: {"model": "gpt-5", "args": ["-c", provider, "-c", "model_provider=test"]},
        AgentKind.OPENCODE: {"model": "test/m"},
    }
    models = {"m": {"name": "m", "limit": {"context": 100000, "output": 8000}}}
    opencode = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{url}/v1", "apiKey": KEY},
        "models": models,
    }
    env = {
        "KEY": KEY,
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": KEY,
        "COPILOT_PROVIDER_BASE_URL": f"{url}/v1",
        "COPILOT_PROVIDER_TYPE": "openai",
        "COPILOT_PROVIDER_API_KEY": KEY,
        "COPILOT_MODEL": "gpt-5",
        "COPILOT_OFFLINE": "true",
        "OPENCODE_CONFIG_CONTENT": json.dumps({"provider": {"test": opencode}}),
    }
    bench.ordered = Settings(agents=[{"name": "a", "kind": kind, **options.get(kind, {})}])
    ordered = {"type": "agent", "prompt": "Do it", "verify": ["grep -q right ANSWER.txt"], **action}
    return bench.attempt(ordered, env=env, timeout="3m")


@pytest.mark.parametrize("kind", KINDS)
def test_feedback_reaches_the_same_session_and_the_work_is_committed(kind: AgentKind, url: str, bench: Bench):
    done = attempt(bench, kind, f"{url}/fix")

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert git(bench.checkout, "show", f"{done.tip}:ANSWER.txt") == "right"
    assert bench.log.count("round ") == 2
    assert bench.said("%(trailers:key=Coord-Agent,valueonly)", done.tip).startswith("a")


@pytest.mark.parametrize("kind", KINDS)
def test_a_session_goes_on_in_a_later_run(kind: AgentKind, url: str, bench: Bench):
    assert attempt(bench, kind, f"{url}/fix", rounds=1).kind is OutcomeKind.FAILED
    memory = next((bench.state / "agents" / "PLAN-001" / "api").glob("*.json"))
    memory.write_text(json.dumps({**json.loads(memory.read_text()), "unfinished": True}))
    bench.run = RUN.replace(RUN[-4:], "zzzz")

    done = attempt(bench, kind, f"{url}/fix", prompt=f"This {model.FEEDBACK}. Do it.")

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert "a new one begins" not in bench.log


@pytest.mark.parametrize("kind", KINDS)
def test_a_question_is_told(kind: AgentKind, url: str, bench: Bench):
    assert "which database shall I use?" in attempt(bench, kind, f"{url}/ask").error


@pytest.mark.parametrize("kind", KINDS)
def test_a_login_that_is_refused_waits_for_a_person(kind: AgentKind, url: str, bench: Bench):
    waits = attempt(bench, kind, f"{url}/401")

    assert (waits.kind, waits.reason) == (OutcomeKind.DEFERRED, WaitReason.PERSON), bench.log


@pytest.mark.parametrize("kind", [AgentKind.CLAUDE, AgentKind.CODEX, AgentKind.COPILOT])
def test_a_limit_parks_the_todo(kind: AgentKind, url: str, bench: Bench):
    done = attempt(bench, kind, f"{url}/429")

    assert (done.kind, done.reason) == (OutcomeKind.DEFERRED, WaitReason.LIMIT), bench.log
