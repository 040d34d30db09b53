"""How a call of `coord` begins and ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from coordination.cli import app
from coordination.environment import actor
from coordination.errors import Blocked, LockTimeout, NotFound, Unreachable

HELP = "import sys; sys.argv = ['coord', '--help']\nfrom coordination.cli import main\n"

EndCall = Callable[[BaseException | None], tuple[int, str]]


@pytest.fixture
def end_call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> EndCall:
    """How a call ends, and what it says on standard error, when its command raises this."""

    def end(error: BaseException | None) -> tuple[int, str]:
        @click.command()
        @click.pass_obj
        def command(call: object) -> None:
            if error:
                raise error

        monkeypatch.setattr(app.coord, "_load", lambda _: command)
        with pytest.raises(SystemExit) as exit_:
            app.run(["validate"])
        return exit_.value.code, capsys.readouterr().err  # type: ignore[return-value]

    return end


def test_help_imports_what_prints_it_and_nothing_else() -> None:
    begin, end = "import sys\nbefore = set(sys.modules)\n", "print(*(set(sys.modules) - before))"
    script = f"{begin}{HELP}try:\n    main()\nexcept SystemExit:\n    {end}"

    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    modules = said.splitlines()[-1].split()
    ours = {name for name in modules if name.startswith("coordination")}
    others = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
    assert others == {"coordination", "click", "rich"}
    assert ours == {
        *("coordination", "coordination.errors", "coordination.terminal", "coordination.operation_index"),
        *("coordination.cli", "coordination.cli.app", "coordination.cli.command_table"),
        *("coordination.cli.context", "coordination.cli.groups", "coordination.environment"),
        *("coordination.cli.screen", "coordination.cli.screen.pager", "coordination.cli.screen.tables"),
        *("coordination.declared", "coordination.cli.command", "coordination.text", "coordination.states"),
    }


def test_help_on_all_lists_every_command_under_its_heading_with_a_line() -> None:
    said = app.coord.help_on_all()

    for heading, family in app.COMMANDS.items():
        assert heading in said
        for name in family:
            assert f" {name} " in said
            assert app.coord.entries[name].help.split()[0] in said


@pytest.mark.parametrize("name", sorted(app.coord.entries))
def test_every_command_of_the_table_is_there(name: str) -> None:
    _, command, _ = app.coord.resolve_command(click.Context(app.coord), [name])

    assert isinstance(command, click.Command)
    assert command.help


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound("no such plan", "see: coord plan list"), 2),
        (Blocked("held up", "wait"), 5),
        (LockTimeout("held by another", "wait"), 6),
        (Unreachable("no answer", "start it"), 7),
    ],
)
def test_a_refusal_says_what_to_do_and_has_its_own_code(
    end_call: EndCall, error: Exception, code: int
) -> None:
    assert end_call(error) == (code, f"error: {error}\n")


def test_an_interrupted_call_ends_with_130(end_call: EndCall) -> None:
    assert end_call(KeyboardInterrupt())[0] == 130


def test_a_good_call_ends_with_0_and_says_nothing(end_call: EndCall) -> None:
    assert end_call(None) == (0, "")


def test_a_fault_of_ours_is_one_sentence_and_a_file_with_the_traceback(end_call: EndCall) -> None:
    code, said = end_call(ZeroDivisionError("oh"))

    assert code == 1
    assert said.startswith("error: coord has a fault: ZeroDivisionError: oh\n")
    report = Path(said.split("report it with ")[1].split(";")[0])
    assert "Traceback" in report.read_text()
    report.unlink()


def test_a_fault_of_ours_shows_its_traceback_when_asked(
    end_call: EndCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COORD_DEBUG", "1")

    assert "Traceback" in end_call(ZeroDivisionError("oh"))[1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_an_answer_for_which_there_is_no_room_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"{HELP}sys.argv = ['coord', 'schema']\nmain()"

    with Path("/dev/full").open("w") as full:
        ended = subprocess.run([sys.executable, "-c", script], stdout=full, stderr=subprocess.PIPE, text=True)

    assert ended.returncode == 1
    assert ended.stderr.startswith(
        "error: not all of the answer could be written: No space left on device\n  make room"
    )


def test_streams_that_the_caller_has_closed_are_not_missed() -> None:
    script = f"{HELP}sys.argv = ['coord', 'no-such-command']\nmain()"

    ended = subprocess.run(["sh", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, script])

    assert ended.returncode == 2


def test_whoever_stops_reading_gets_no_traceback(tmp_path: Path) -> None:
    script = f"{HELP}sys.argv = ['coord', 'schema']\nmain()"

    reader = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert reader.stdout
    reader.stdout.close()
    assert reader.stderr
    said = reader.stderr.read()

    assert reader.wait() != 0
    assert said == ""


def test_no_color_is_obeyed_where_colours_are_forced(tmp_path: Path) -> None:
    def help_with(**environment: str) -> str:
        env = {"FORCE_COLOR": "1", "TERM": "xterm-256color", **environment}
        return subprocess.run(
            [sys.executable, "-c", HELP + "main()"], capture_output=True, text=True, env=env
        ).stdout

    assert "\x1b[" in help_with()
    assert "\x1b[" not in help_with(NO_COLOR="1")


def test_a_user_without_a_name_is_recorded_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2_000_000_123)  # as containers choose one

    assert actor().startswith("uid-2000000123@")


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="Linux has this device")
@pytest.mark.parametrize("words", [["list-nothing"], ["--help"]], ids=" ".join)
def test_a_call_whose_output_and_errors_find_no_room_ends_with_a_code_of_coord(words: list[str]) -> None:
    script = f"import sys; sys.argv = ['coord', *{words}]\nfrom coordination.cli import main\nmain()"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with FULL.open("w") as full:
        done = subprocess.run([sys.executable, "-c", script], env=env, stdout=full, stderr=full, check=False)

    assert done.returncode == 1
