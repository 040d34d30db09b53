"""A run waits for a secret, gets it when it is there, and leaves it nowhere, also after a kill."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from tests.commands import gone
from tests.stage import Stage
from tests.waiting import until
from workers.workspace.files import clear_scratch

SECRET = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYzzQ9"
SHOW = 'cat "$COORD_SECRETS/ship"; echo "{\\"t\\": \\"$(cat "$COORD_SECRETS/ship")\\"}" > $COORD_OUTPUT'


def holders(folder: Path, *but: str) -> list[Path]:
    """Return the files with the secret."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name not in but)
    return [file for file in files if SECRET.encode() in file.read_bytes()]


def test_a_run_goes_on_when_its_secret_is_there_and_a_kill_leaves_no_copy(stage: Stage):
    stay = f"{SHOW}; test -e $LEDGER || {{ echo begun > $LEDGER; sleep 60; }}"
    stage.write([{"id": "A", "repo": "api", "action": stay, "secrets": ["ship"]}])
    (stage.folder / "token").write_text(SECRET)
    (stage.folder / "token").chmod(0o600)
    stage.up()
    run = stage.ok("sweep", "PLAN-001", "--detach", "--json").json["run_id"]
    until(lambda: "no credential ship" in json.dumps(stage.shown(run).todo("A")))

    stage.ok("credential", "add", "ship", f"file:{stage.folder / 'token'}", "--repo", "api")
    until(lambda: stage.ledger == ["begun"])
    assert {file.name for file in holders(stage.state)} == {"ship", "output.json"}, "those of the attempt"
    worker = int(stage.shown(run).todo("A")["worker"].partition("@")[0].removeprefix("coord-"))
    os.kill(worker, signal.SIGKILL)
    until(lambda: gone(worker))

    until(lambda: stage.shown(run).json["status"] == "succeeded", 90)
    assert stage.ok("logs", run, "A").out.count("***") >= 1
    assert stage.shown(run).todo("A")["output"] == {"t": "***"}
    events = stage.ok("events", "--kind", "credential.read", "--json").json
    assert {(e["subject"], e["run"], e["data"]["todo"]) for e in events} == {("ship", run, "A")}
    stage.ok("export-run", run, str(stage.folder / "run.json"))
    clear_scratch(stage.state)  # as any worker does four times a minute
    assert holders(stage.folder, "token") == [], "neither in logs, nor in Redis' files, nor in the export"
