"""Which sandbox holds, and the command line that makes it: on every machine, with bubblewrap or without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordination.errors import UsageError
from coordination.models import Repo, Todo
from coordination.operations.doctor import Checkup, findings
from coordination.operations.machine_check import Machine
from coordination.sandbox import Binds, Bounds, HostFacts, NoSandbox, Probed, View, argv, decide, probe
from coordination.settings import Settings, read_settings
from tests.attempts import Bench
from workers.outcome import OutcomeKind

DEFAULT = Bounds(network=False, memory=0, processes=1000)
AGENT = Bounds(network=True, memory=0, processes=1000)


@pytest.mark.parametrize(
    ("todo", "repo", "setting", "bounds", "asked"),
    [
        ({"action": "make"}, None, "auto", None, False),
        ({}, None, "auto", AGENT, False),
        ({"action": "make"}, None, "bubblewrap", DEFAULT, True),
        ({"action": "make", "sandbox": "bubblewrap"}, None, "off", DEFAULT, True),
        ({"action": "make"}, "bubblewrap", "off", DEFAULT, True),
        ({"action": "make", "sandbox": "off"}, "bubblewrap", "bubblewrap", None, False),
        ({"sandbox": "off"}, None, "require", AGENT, True),
        ({"action": "make", "sandbox": {"network": True}}, {"memory": "1GiB", "processes": 5}, "auto",
         Bounds(network=True, memory=1 << 30, processes=5), True),
        ({"sandbox": {"network": False}}, None, "off", DEFAULT, True),
    ],
)  # fmt: skip
def test_the_todo_decides_then_its_repository_then_the_settings(
    todo: dict[str, Any], repo: object, setting: Any, bounds: Bounds | None, asked: bool
):
    row = Todo.model_validate({"id": "T", "task": "t", "repo": "r", **todo})
    place = Repo.model_validate({"name": "r", "sandbox": repo})

    decision = decide(row, place, row.action, Settings(sandbox=setting))

    assert (decision.bounds, decision.required) == (bounds, asked)


def view(**more: Any) -> View:
    facts = {
        "machine": HostFacts(system=("/usr",), links=(("usr/bin", "/bin"),)),
        "home": Path("/home/ann"),
    }
    return View(private=Path("/p"), cwd=Path("/w"), **{**facts, "network": False, **more})


def test_the_command_line_shows_what_is_bound_and_pins_last():
    binds = Binds(
        readable=(Path("/r"), Path("/r")),
        writable=(Path("/w"), Path("/odd --bind")),
        pinned=(Path("/w/.git"),),
    )
    words = argv("bwrap", view(binds=binds), ["sh", "-c", "--bind / /"])

    assert words[words.index("--") :] == ["--", "sh", "-c", "--bind / /"]
    options = words[1 : words.index("--")]
    assert options[-2:] == ["--chdir", "/w"]
    assert (
        options.index("/w/.git") > options.index("/odd --bind") > options.index("/r") > options.index("/tmp")
    )
    assert options.count("/r") == 2
    assert options[options.index("/w") - 1] == "--bind"
    assert options[options.index("/w/.git") - 1] == "--ro-bind"
    assert {"--unshare-user", "--unshare-pid", "--unshare-net", "--die-with-parent"} <= set(options)
    assert "--unshare-net" not in argv("bwrap", view(network=True), ["true"])
    assert not any(option.startswith("/") and option == "/" for option in options[:-4])


def test_a_program_that_is_missing_or_fails_is_named_with_the_next_step(tmp_path: Path):
    missing = probe("no-bubblewrap-here")
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'No permissions to create a new namespace' >&2; exit 1\n")
    broken.chmod(0o755)
    forbidden = probe(str(broken))

    assert not missing.works
    assert "No permissions" in forbidden.why_not
    for probed in (missing, forbidden):
        with pytest.raises(NoSandbox) as refused:
            probed.required("TODO-001")
        assert refused.value.hint
        asked, default = (
            findings(
                Checkup(machine=Machine(host="h", version="1", git="2", sandbox=probed, sandbox_asked=asked))
            )
            for asked in (True, False)
        )
        assert [found[0].severity.value for found in (asked, default)] == ["wrong", "warning"]


def test_a_todo_that_asks_for_a_sandbox_never_runs_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bench = Bench(tmp_path)
    bench.make_repository()
    monkeypatch.setattr(
        "workers.sandbox.probe", lambda: Probed(why_not="bubblewrap is gone", hint="install it")
    )

    asked = bench.attempt(f"touch {tmp_path}/ran", sandbox="bubblewrap")
    required = bench.attempt(f"touch {tmp_path}/ran", sandbox="off", settings=Settings(sandbox="require"))
    bench.ordered = Settings(agent_command="cat > /dev/null")
    default = bench.attempt()

    assert [one.kind for one in (asked, required)] == [OutcomeKind.REFUSED] * 2
    assert "bubblewrap is gone" in asked.error
    assert not (tmp_path / "ran").exists()
    assert default.kind is OutcomeKind.SUCCEEDED
    assert "without a sandbox" in bench.log


@pytest.mark.parametrize("name", ["sandbox_readable", "sandbox_writable", "sandbox_variables"])
def test_the_file_cannot_open_a_sandbox(name: str):
    with pytest.raises(UsageError):
        read_settings({name: ["/"]}, environ={})
    assert getattr(read_settings({}, environ={f"COORD_{name.upper()}": "/a, /b"}), name) == ("/a", "/b")
