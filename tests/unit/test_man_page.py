"""The man page: made from the chapter of the commands, and read by the programs that read man pages."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from coordination.cli.app import coord
from coordination.cli.command_table import COMMANDS
from docs import man

ROOT = Path(__file__).parents[2]
PAGE = man.page(man.CHAPTER.read_text())
REQUESTS = {".TH", ".SH", ".SS", ".B", ".br", ".PP", ".TP", ".nf", ".fi", '.\\"'}


def rendered(page: str) -> str:
    """The text that a terminal shows, without breaks of lines; fails on a warning."""
    if not (groff := shutil.which("groff")):
        pytest.skip("needs groff")
    done = subprocess.run(
        [groff, "-man", "-ww", "-Tutf8", "-P-cbou", "-rHY=0", "-dAD=l"],
        input=page, capture_output=True, text=True, check=True, encoding="utf-8",
    )  # fmt: skip
    assert done.stderr == ""
    return " ".join(done.stdout.split())


def test_every_command_is_there_with_its_options() -> None:
    text = rendered(PAGE)

    for name in (name for family in COMMANDS.values() for name in family):
        assert f" coord {name} " in text, name
        assert f"Also: coord {coord.entries[name].noun_verb}. ".replace("Also: coord . ", "") in text
    assert "--strict Treat warnings as errors: exit code 2, for CI." in text
    assert "`" not in re.sub(r"`[^` ]+`", "", text), "no Markdown is left"


@pytest.mark.parametrize(
    "text",
    [
        ".SH is no request here", "'tis no request", r"a back\slash and \fBno bold\fR",
        "--long-option 'quoted' `code`",
        "A ^ and a ~ and a | and \"quotes\"", "… · ✓", "-",
    ],
)  # fmt: skip
def test_a_text_is_shown_as_it_is(text: str) -> None:
    assert f"begin {text} end" in rendered(f".TH X 1\n.SH X\nbegin\n{man.escaped(text)}\nend\n")


def test_only_known_requests_begin_a_line() -> None:
    found = {line.split()[0] for line in PAGE.splitlines() if line[:1] in (".", "'")}

    assert found <= REQUESTS


def test_the_page_and_the_chapters_are_made_for_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setuptools = pytest.importorskip("setuptools")
    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    monkeypatch.chdir(ROOT)
    command = runpy.run_path("setup.py")["BuildWithChapters"](setuptools.Distribution())
    command.finalize_options()
    command.build_lib, command.packages, command.py_modules = str(tmp_path), [], []

    command.run()

    assert Path("build", "man", "coord.1").read_text() == PAGE
    copied = {path.name: path.read_text() for path in (tmp_path / "coordination" / "chapters").iterdir()}
    assert copied == {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")}
