"""A run waits for a secret, gets it when it is there, and leaves it nowhere, also after a kill."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from tests.commands import gone
from tests.testbed import Testbed
from tests.waiting import until
from workers.workspace.files import clear_scratch

SECRET = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYzzQ9"
SHOW = 'cat "$COORD_SECRETS/ship"; echo "{\\"t\\": \\"$(cat "$COORD_SECRETS/ship")\\"}" > $COORD_OUTPUT'


def holders(folder: Path, *but: str) -> list[Path]:
    """Return the files with the secret."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name not in but)
    return [file for file in files if SECRET.encode() in file.read_bytes()]


def test_a_run_goes_on_when_its_secret_is_there_and_a_kill_leaves_no_copy(testbed: Testbed):
    stay = f"{SHOW}; test -e $LEDGER || {{ echo begun > $LEDGER; sleep 60; }}"
    testbed.write([{"id": "A", "repo": "api", "action": stay, "secrets": ["ship"]}])
    (testbed.folder / "token").write_text(SECRET)
    (testbed.folder / "token").chmod(0o600)
    testbed.up()
    run = testbed.ok("sweep", "PLAN-001", "--detach", "--json").json["run_id"]
    until(lambda: "no credential ship" in json.dumps(testbed.shown(run).todo("A")))

    testbed.ok("credential", "add", "ship", f"file:{testbed.folder / 'token'}", "--repo", "api")
    until(lambda: testbed.ledger == ["begun"])
    assert {file.name for file in holders(testbed.state)} == {"ship", "output.json"}, "those of the attempt"
    worker = int(testbed.shown(run).todo("A")["worker"].partition("@")[0].removeprefix("coord-"))
    os.kill(worker, signal.SIGKILL)
    until(lambda: gone(worker))

    until(lambda: testbed.shown(run).json["status"] == "succeeded", 90)
    assert testbed.ok("logs", run, "A").out.count("***") >= 1
    assert testbed.shown(run).todo("A")["output"] == {"t": "***"}
    events = testbed.ok("event", "list", "--kind", "credential.read", "--json").json
    assert {(e["subject"], e["run"], e["data"]["todo"]) for e in events} == {("ship", run, "A")}
    testbed.ok("run", "export", run, str(testbed.folder / "run.json"))
    clear_scratch(testbed.state)  # as any worker does four times a minute
    assert holders(testbed.folder, "token") == [], "neither in logs, nor in Redis' files, nor in the export"


def test_a_token_in_a_url_is_a_warning_and_is_not_shown(testbed: Testbed):
    urls = {
        "api": f"https://bot:{SECRET}@example.org/api.git",
        "web": f"https://{SECRET}@example.org/web.git",
        "doc": "https://ann@example.org/doc.git",
    }
    testbed.write(repos={name: {"url": url} for name, url in urls.items()})

    strict = testbed.coord("validate", "--strict", "--json")
    shown = [
        testbed.ok(*words)
        for words in (["repo", "list", "--json"], ["repo", "list"], ["status", "api", "--json"])
    ]

    assert strict.code == 2
    assert [one["where"] for one in strict.json["warnings"]] == ["repos[0].url (api)", "repos[1].url (web)"]
    assert [repo["url"] for repo in shown[0].json] == [
        "https://bot:***@example.org/api.git",
        "https://***@example.org/web.git",
        urls["doc"],
    ]
    assert not [one for one in (strict, *shown) if SECRET in one.out + one.err]
