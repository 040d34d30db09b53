"""A `systemctl --user` for tests on machines without systemd: real processes, and states in a folder.

It reads unit files where systemd does, `$XDG_RUNTIME_DIR/systemd/user`, and of these ExecStart and Restart.
It has no background process: a unit whose process has ended is restarted when somebody looks at it.
"""

from __future__ import annotations

import configparser
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path


def main(verb: str, name: str) -> int:
    runtime = Path(os.environ["XDG_RUNTIME_DIR"])
    unit = configparser.ConfigParser()
    if not unit.read(runtime / "systemd" / "user" / name):
        if verb == "show":
            _tell("inactive", "dead", "success", 0)
            return 0
        sys.stderr.write(f"Failed to {verb} {name}: Unit {name} not found.\n")
        return 5
    file = runtime / f"{name}.json"
    known = json.loads(file.read_text()) if file.exists() else {"pid": 0, "stopped": True}
    pid = known["pid"] if _lives(known["pid"]) else 0
    again = not known["stopped"] and unit["Service"].get("Restart", "no") != "no"
    if verb in ("stop", "restart"):
        _end(pid)
        pid, known["stopped"] = 0, True
    if verb == "restart" or (verb == "show" and not pid and again):
        command = shlex.split(unit["Service"]["ExecStart"])
        pid = subprocess.Popen(
            command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ).pid  # fmt: skip
        file.write_text(json.dumps({"pid": pid, "stopped": False}))
        if verb == "show":
            _tell("activating", "auto-restart", "signal", 0)
        return 0
    file.write_text(json.dumps({"pid": pid, "stopped": known["stopped"]}))
    if verb == "show":
        ended = ("inactive", "dead", "success") if known["stopped"] else ("failed", "failed", "signal")
        _tell(*(("active", "running", "success") if pid else ended), pid)
    return 0


def _tell(active: str, sub: str, result: str, pid: int) -> None:
    states = f"ActiveState={active}\nSubState={sub}\nResult={result}"
    sys.stdout.write(f"MainPID={pid}\nExecMainStatus=9\n{states}\n")


def _lives(pid: int) -> bool:
    with suppress(OSError):
        return pid > 0 and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _end(pid: int) -> None:
    while _lives(pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.01)


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    sys.exit(main(words[0], words[-1]))
