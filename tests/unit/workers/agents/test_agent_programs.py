"""Command lines and variables of the programs; errors by their class."""

from __future__ import annotations

import subprocess
import sys

import pytest

from coordination.models import AgentKind
from coordination.runs.records import AgentUsage
from tests.agents.rounds import preset
from workers.agents.judge import RETRIES, RoundEnd, judge
from workers.agents.program import Report, Resume, Start
from workers.agents.programs import PROGRAMS

ID = "0b64f2a5-6f0e-4b8e-9c53-5d1f2a6f1a11"
REPORTING = [kind for kind in AgentKind if PROGRAMS[kind].reports]
CHOOSING = (AgentKind.CLAUDE, AgentKind.GEMINI, AgentKind.COPILOT)
"""Programs that let the id of a session be chosen."""


def test_each_kind_has_a_program():
    assert set(PROGRAMS) == set(AgentKind)


@pytest.mark.parametrize("kind", REPORTING)
def test_the_prompt_is_no_argument(kind: AgentKind):
    prompt = "--help; " + "x" * 1_000_000

    told = PROGRAMS[kind].invocation(preset(kind, model="m1", args=["--more"]), Start(prompt=prompt))

    assert told.stdin == prompt.encode()
    assert told.argv[0] == kind.value
    assert "m1" in told.argv
    assert "--more" in told.argv
    assert max(map(len, told.argv)) < 100


@pytest.mark.parametrize("kind", REPORTING)
def test_a_session_is_continued_or_begun_with_a_chosen_id(kind: AgentKind):
    program = PROGRAMS[kind]
    begun = program.invocation(preset(kind), Start(prompt="p", new_session=ID)).argv
    continued = program.invocation(preset(kind), Start(prompt="p", session="S-1", new_session=ID)).argv

    assert any(ID in word for word in begun) == (kind in CHOOSING)
    assert any("S-1" in word for word in continued)
    assert not any(ID in word for word in continued)
    assert program.resume is not Resume.NEVER


def test_claude_gets_what_is_left_of_the_limits():
    argv = (
        PROGRAMS[AgentKind.CLAUDE]
        .invocation(preset(AgentKind.CLAUDE), Start(prompt="p", usd_left=0.0, turns_left=0))
        .argv
    )

    assert argv[argv.index("--max-budget-usd") + 1] == "0.0001"
    assert argv[argv.index("--max-turns") + 1] == "1"


def test_only_a_sandbox_is_told_to_claude():
    variables = PROGRAMS[AgentKind.CLAUDE].environment

    assert "IS_SANDBOX" not in variables(preset(AgentKind.CLAUDE), confined=False)
    assert variables(preset(AgentKind.CLAUDE), confined=True)["IS_SANDBOX"] == "1"


@pytest.mark.parametrize("command", [[sys.executable, "-c", "import sys; print(sys.argv[1:])"],
    f"{sys.executable} -c 'import sys; print(sys.argv[1:])'"])  # fmt: skip
@pytest.mark.parametrize("kind", [AgentKind.COMMAND, AgentKind.CODEX])
def test_an_own_command_gets_the_arguments(kind: AgentKind, command: object):
    agent = preset(kind, command=command, args=["a b", "$c"])

    argv = PROGRAMS[kind].invocation(agent, Start(prompt="p")).argv

    printed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "'a b', '$c'" in printed


ERRORS = [
    (Report(error="no"), RoundEnd.FAILED),
    (Report(error="no", status=401), RoundEnd.AUTH),
    (Report(error="no", status=402), RoundEnd.QUOTA),
    (Report(error="no", status=429), RoundEnd.LIMITED),
    (Report(error="You exceeded your current quota: insufficient_quota", status=429), RoundEnd.QUOTA),
    (Report(error="no", status=503), RoundEnd.OVERLOADED),
    (Report(error="no", status=400), RoundEnd.FAILED),
    (Report(error="prompt is too long: 9 tokens > 5 maximum", status=400), RoundEnd.CONTEXT),
    (Report(error="API Error: Connection error."), RoundEnd.OVERLOADED),
    (Report(error="Session not found"), RoundEnd.LOST),
    (Report(error="x", done=True), RoundEnd.FAILED),
    (Report(done=True, over="turns"), RoundEnd.OVER),
    (Report(done=True, interrupted=True), RoundEnd.INTERRUPTED),
    (Report(), RoundEnd.FAILED),
]


@pytest.mark.parametrize(("report", "kind"), ERRORS)
def test_an_error_has_a_class(report: Report, kind: RoundEnd):
    assert judge(report, exit_code=0).kind is kind
    assert judge(report, exit_code=1).kind is kind


def test_what_the_agent_says_is_no_error():
    said = Report(done=True, text="The server answers 401 and 429: rate limit")

    assert judge(said, exit_code=0).kind is RoundEnd.DONE
    assert judge(said, exit_code=1).kind is RoundEnd.FAILED
    assert judge(Report(text="QUESTION: which?"), exit_code=0).kind is RoundEnd.FAILED


def test_a_stopped_program_is_interrupted_unless_it_did_nothing_but_retry():
    tells = Report(retrying="429 rate_limit", status=429)

    assert judge(tells, exit_code=143, reason="cancelled").kind is RoundEnd.INTERRUPTED
    assert judge(tells, exit_code=143, reason=RETRIES).kind is RoundEnd.LIMITED
    assert judge(Report(), exit_code=None, signal=9, reason=RETRIES).kind is RoundEnd.OVERLOADED
    assert judge(Report(done=True), exit_code=None, signal=9).kind is RoundEnd.INTERRUPTED


def test_usage_is_added_and_a_cost_that_is_unknown_stays_so():
    assert (AgentUsage(turns=1) + AgentUsage(turns=2)).micro_usd is None
    assert (AgentUsage(micro_usd=500_000) + AgentUsage()).usd == 0.5
