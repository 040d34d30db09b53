"""Agents on a real worker: a program in the place of Claude Code, killed, limited and cancelled."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from socket import gethostname

import pytest
import yaml

from tests.testbed import PLAN, Testbed, git
from tests.waiting import until

PROGRAM = """\
#!{python}
import json, os, sys, time

ledger, words = os.environ["LEDGER"], sys.argv
resumed = words[words.index("--resume") + 1] if "--resume" in words else ""
session = resumed or words[words.index("--session-id") + 1]
print(json.dumps({{"type": "system", "subtype": "init", "session_id": session, "model": "m"}}), flush=True)
with open(ledger, "a") as file:
    file.write(f"{{session if resumed else 'new'}}\\n")
number = len(open(ledger).readlines())

def say(**more):
    usage = {{"input_tokens": 10, "output_tokens": 1}}
    result = {{"type": "result", "subtype": "success", "is_error": False, "num_turns": 1, "result": "Done."}}
    print(json.dumps({{**result, "usage": usage, "session_id": session, **more}}), flush=True)

def wait_for(name):
    while not os.path.exists(f"{{ledger}}.{{name}}"):
        time.sleep(0.05)

{body}
"""


@pytest.fixture
def agents(testbed: Testbed) -> Testbed:
    testbed.settings = {
        "agents": [{"name": "a", "kind": "claude", "command": [str(testbed.folder / "claude")]}]
    }
    return testbed


def order(testbed: Testbed, body: str, **action: object) -> None:
    """Write the program, and a plan with a todo for it."""
    program = testbed.folder / "claude"
    program.write_text(PROGRAM.format(python=sys.executable, body=textwrap.dedent(body)))
    program.chmod(0o755)
    ordered = {"type": "agent", "prompt": "Do it", "verify": ["grep -q two code"], **action}
    testbed.write([{"id": "T", "repo": "r1", "action": ordered}], repos={"r1": {"sandbox": "off"}})


def test_a_worker_that_is_killed_in_a_round_goes_on_in_the_same_session(agents: Testbed):
    body = """
        open("code", "w").write("two" if number > 1 else "half")
        wait_for("go")
        say()
    """
    order(agents, body)
    agents.ok("sweep", PLAN, "--detach")
    until(lambda: agents.ledger)

    agents.kill("worker")
    (agents.folder / "ledger.go").touch()
    agents.up()
    until(lambda: agents.run()["status"] == "succeeded")

    first, second = agents.ledger
    tip = git(agents.folder / "r1", "rev-parse", f"coord/{PLAN}")
    trailer = git(agents.folder / "r1", "log", "-1", "--format=%(trailers:key=Coord-Agent,valueonly)", tip)
    assert first == "new"
    assert second in trailer
    assert git(agents.folder / "r1", "show", f"{tip}:code") == "two"
    assert git(agents.folder / "r1", "rev-list", "--count", f"main..{tip}") == "1"


def test_a_limit_parks_the_todo_until_its_end_and_its_work_is_there_after_it(agents: Testbed):
    body = """
        if number == 1:
            open("half", "w").write("half")
            info = {"status": "rejected", "resetsAt": int(time.time()) + 2}
            print(json.dumps({"type": "rate_limit_event", "rate_limit_info": info}))
            say(is_error=True, api_error_status=429, result="rate limit reached")
            sys.exit(1)
        open("code", "w").write("two" if os.path.exists("half") else "lost")
        say()
    """
    order(agents, body)
    agents.ok("sweep", PLAN, "--detach")
    until(lambda: "a limit of a" in str(agents.todo("T")["waits_for"]) or len(agents.ledger) > 1)
    until(lambda: agents.run()["status"] == "succeeded")

    first, second = agents.ledger
    assert (first, second == "new") == ("new", False)
    files = git(agents.folder / "r1", "ls-tree", "--name-only", f"coord/{PLAN}").split()
    assert files == ["README", "code", "half"]
    assert git(agents.folder / "r1", "for-each-ref", "refs/coord/kept") == ""


def test_a_todo_that_is_cancelled_in_a_verify_command_leaves_nothing(agents: Testbed):
    order(
        agents,
        'open("code", "w").write("two")\nsay()',
        verify=["echo verifying >> $LEDGER; until test -e $LEDGER.go; do sleep 0.05; done"],
    )
    agents.ok("sweep", PLAN, "--detach")
    until(lambda: "verifying" in agents.ledger)

    agents.ok("cancel", "last")
    until(lambda: agents.run()["status"] == "cancelled")

    assert agents.ledger == ["new", "verifying"]
    assert agents.todo("T")["state"] == "cancelled"
    assert git(agents.folder / "r1", "for-each-ref", f"refs/heads/coord/{PLAN}") == ""


def test_kept_work_goes_with_its_run(agents: Testbed):
    body = """
        open("half", "w").write("half")
        info = {"status": "rejected", "resetsAt": int(time.time()) + 3600}
        print(json.dumps({"type": "rate_limit_event", "rate_limit_info": info}))
        say(is_error=True, api_error_status=429, result="rate limit reached")
        sys.exit(1)
    """
    order(agents, body)
    agents.ok("sweep", PLAN, "--detach")
    until(lambda: agents.todo("T")["state"] == "parked")
    kept = ("for-each-ref", "--format=%(refname)", "refs/coord/kept")
    assert git(agents.folder / "r1", *kept).endswith("/T")

    agents.ok("cancel", "last")
    until(lambda: agents.run()["status"] == "cancelled")
    agents.ok("run", "clean", agents.run()["run_id"], "--unmerged", "--yes")

    until(lambda: git(agents.folder / "r1", *kept) == "")
    assert agents.ledger == ["new"]


ASKS = """
    if number == 1:
        open("half", "w").write("half")
        say(result="QUESTION: two or three?")
        sys.exit()
    prompt = sys.stdin.read()
    is_told = "two, please" in prompt and "two or three?" in prompt and os.path.exists("half")
    open("code", "w").write("two" if is_told else "lost")
    say()
"""


def test_a_question_waits_for_its_answer_which_goes_into_the_same_session(agents: Testbed):
    order(agents, ASKS)
    agents.ok("sweep", PLAN, "--detach")
    until(lambda: agents.todo("T")["state"] == "parked")

    waits_for = str(agents.todo("T")["waits_for"])
    assert 'coord answer T "TEXT"; a asks: two or three?' in waits_for
    assert agents.todo("T")["wait_reason"] == "person"
    assert "two or three?" in agents.ok("status").out

    agents.ok("answer", "T", "two, please")
    until(lambda: agents.run()["status"] == "succeeded")

    first, second = agents.ledger
    assert (first, second == "new") == ("new", False)
    assert git(agents.folder / "r1", "show", f"coord/{PLAN}:code") == "two"
    assert git(agents.folder / "r1", "for-each-ref", "refs/coord/kept") == ""
    assert agents.todo("T")["attempt"] == 1
    used = agents.todo("T")["usage"]
    assert (used["rounds"], used["turns"], used["input"], used["micro_usd"]) == (2, 2, 20, None)
    shown = agents.ok("show-run", "last").out
    assert "used by agents: 2 rounds, 2 turns, 22 tokens\n" in shown
    assert "USED" in shown


def test_the_records_of_an_agent_are_printed_in_the_order_of_its_attempts(agents: Testbed):
    body = """
        print("no record", flush=True)
        open("code", "w").write("two" if number > 1 else "one")
        say(result=f"try {number} \\u202e")
    """
    order(agents, body, rounds=1)
    with agents.edited() as document:
        agent = document["coordination"]["todos"][0]
        agent["retry"] = {"attempts": 2, "delay": "1ms"}
        document["coordination"]["todos"].append({**agent, "id": "SHELL", "action": "true"})
    assert agents.sweep().code == 0

    printed = agents.ok("logs", "last", "T", "--records").out
    records = [json.loads(line) for line in printed.splitlines()]
    assert [one.get("result") for one in records] == [None, "try 1 \u202e", None, "try 2 \u202e"]
    assert "\u202e" not in printed, "the terminal gets it as an escape, which JSON has, too"
    assert agents.ok("logs", "--records").out == printed
    assert agents.coord("logs", "--records", "-f").code == 2


def test_records_that_are_not_on_this_host_are_named_with_the_host_that_has_them(
    agents: Testbed,
):
    order(agents, 'open("code", "w").write("two"); say()')
    assert agents.sweep().code == 0
    run = agents.run()["run_id"]
    (agents.state / "logs" / run / "T.1.jsonl").unlink()

    elsewhere = agents.coord("logs", "last", "T", "--records", COORD_HOST="elsewhere")
    assert elsewhere.code == 2
    assert f"T has no records on elsewhere: its agents worked on {gethostname()}" in elsewhere.err
    assert f"coord logs {run} T --records" in elsewhere.err

    gone = agents.coord("logs", "last", "T", "--records")
    assert gone.code == 2
    assert "no agent has worked here for it, or its logs were removed" in gone.err
    assert f"see its output: coord logs {run} T\n" in gone.err


def test_sessions_go_when_no_agent_of_their_plan_has_used_them_for_long_nor_may_go_on(agents: Testbed):
    body = """
        if os.environ["COORD_TODO_ID"] == "ASKS":
            say(result="QUESTION: two or three?")
            sys.exit()
        wait_for("go")
        open("code", "w").write("two")
        say()
    """
    agents.settings["keep_runs"] = "1h"
    order(agents, body)
    agents.repo("r2")
    with agents.edited() as document:
        document["repos"].append({**document["repos"][0], "name": "r2", "path": "r2"})
        document["coordination"]["plans"].append({"id": "ASKED", "title": "another plan"})
        working = document["coordination"]["todos"][0]
        document["coordination"]["todos"].append({**working, "id": "ASKS", "repo": "r2", "plan": "ASKED"})
    agents.up()
    agents.ok("sweep", PLAN, "--detach")
    until(lambda: agents.ledger)
    run = agents.run()["run_id"]
    agents.ok("sweep", "ASKED", "--detach")
    until(lambda: agents.todo("ASKS")["state"] == "parked")

    folder = agents.state / "agents"
    (folder / "OLD" / "r1" / "home").mkdir(parents=True)
    (folder / "OLD" / "r1" / "T.json").write_text("{}")
    (folder / "YOUNG").mkdir()
    for plan in (PLAN, "ASKED", "OLD"):
        os.utime(folder / plan, (1, 1))
    until(lambda: not (folder / "OLD").exists())

    assert {path.name for path in folder.iterdir()} == {PLAN, "ASKED", "YOUNG"}
    (agents.folder / "ledger.go").touch()
    until(lambda: agents.run(run)["status"] == "succeeded")
    assert (folder / PLAN).stat().st_mtime > 1, "its end is a use"


def test_an_answer_needs_a_question(agents: Testbed):
    order(agents, ASKS, verify=[])
    agents.ok("sweep", PLAN, "--detach")
    until(lambda: agents.todo("T")["state"] == "parked")

    assert "the answer is empty" in agents.coord("answer", "T", " ").err
    agents.ok("run", "reject", "T", "--comment", "neither")
    until(lambda: agents.run()["status"] == "failed")

    assert "rejected by" in str(agents.todo("T")["error"])
    assert agents.coord("answer", "T", "two").code != 0
    assert agents.ledger == ["new"]


def test_what_a_killed_worker_had_used_is_counted_once(agents: Testbed):
    body = """
        usage = {"input_tokens": 500, "output_tokens": 7}
        said = {"id": "m", "role": "assistant", "model": "m", "content": [], "usage": usage}
        print(json.dumps({"type": "assistant", "message": said}), flush=True)
        wait_for("go")
        open("code", "w").write("two")
        say(usage=usage)
    """
    order(agents, body)
    agents.ok("sweep", PLAN, "--detach")
    until(lambda: (agents.todo("T")["usage"] or {}).get("input") == 500)
    assert agents.todo("T")["state"] == "running"

    agents.kill("worker")
    (agents.folder / "ledger.go").touch()
    agents.up()
    until(lambda: agents.run()["status"] == "succeeded")

    used = agents.todo("T")["usage"]
    assert (used["rounds"], used["turns"], used["input"], used["output"]) == (2, 2, 1000, 14)
    (costs,) = agents.ok("costs", "--by", "agent", "--json").json
    assert costs == {"name": "a", "used": used}


def test_a_round_beyond_the_budget_of_the_plan_is_ended_and_goes_on_after_an_approval(agents: Testbed):
    body = """
        open("code", "a").write("one\\n" if number == 1 else "two\\n")
        usage = {"input_tokens": 500, "output_tokens": 7}
        said = {"id": "m", "role": "assistant", "model": "m", "content": [], "usage": usage}
        print(json.dumps({"type": "assistant", "message": said}), flush=True)
        while number == 1:
            time.sleep(0.05)
            print(json.dumps({"type": "user", "message": {"content": []}}), flush=True)
        say()
    """
    order(agents, body)
    document = yaml.safe_load(agents.file.read_text())
    document["coordination"]["plans"][0]["budget"] = {"tokens": 300}
    agents.file.write_text(yaml.safe_dump(document, sort_keys=False))
    agents.ok("sweep", PLAN, "--detach")
    until(lambda: "coord approve T" in str(agents.todo("T")["waits_for"]))

    waits = agents.todo("T")
    assert (waits["wait_reason"], waits["state"], waits["attempt"]) == ("budget", "parked", 1)
    assert "507 of 300 tokens" in waits["waits_for"]
    assert "the budget of" in agents.ok("status").out
    agents.ok("approve", "T")
    until(lambda: agents.run()["status"] == "succeeded")
    first, second = agents.ledger
    assert (first, second == "new") == ("new", False)
    assert git(agents.folder / "r1", "show", f"coord/{PLAN}:code") == "one\ntwo"


def test_agents_in_two_repositories_work_at_once_and_each_in_its_own_session(agents: Testbed):
    body = """
        name = os.environ["COORD_REPO"]
        open(f"{ledger}.{name}", "w").close()
        for other in ("r1", "r2"):
            wait_for(other)
        if number <= 2:
            open("code", "w").write("wrong")
        else:
            open("code", "w").write(f"two in {name}")
        say()
    """
    order(agents, body)
    with agents.edited() as document:
        document["repos"].append({**document["repos"][0], "name": "r2", "path": "r2"})
        (todo,) = document["coordination"]["todos"]
        document["coordination"]["todos"].append({**todo, "id": "U", "repo": "r2"})
    agents.repo("r2")
    assert agents.sweep("--jobs", "2").code == 0

    sessions = set()
    for repo in ("r1", "r2"):
        assert git(agents.folder / repo, "show", f"coord/{PLAN}:code") == f"two in {repo}"
        trailer = "--format=%(trailers:key=Coord-Agent,valueonly)"
        sessions.add(git(agents.folder / repo, "log", "-1", trailer, f"coord/{PLAN}").split()[-1])
    assert len(sessions) == 2
    assert sorted(agents.ledger) == sorted(["new", "new", *sessions])
    assert [agents.todo(name)["usage"]["rounds"] for name in ("T", "U")] == [2, 2]
