"""The parsed content of a file is cached, and used only if the file is certainly unchanged."""

from __future__ import annotations

import inspect
import os
from pathlib import Path

import pytest

from coordination.ecosystem import document, layout, parsing
from coordination.ecosystem.document import load, snapshot
from coordination.errors import InvalidFile

LINE = (
    "    - {{id: T-{i}, task: Größe, repo: r, blocked_by: [GONE], created: 2026-01-01, timeout: 10m, "
    "action: true}}\n"
)
TEXT = "coordination:\n  todos:\n" + "".join(LINE.format(i=i) for i in range(1200)).replace(
    "action: true", "action: ls"
)


class Parsed(Exception):
    """The file was read anew."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    snapshot.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "coord"


@pytest.fixture
def no_parser(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """From here on parsing is a failure."""

    def parsed(*_: object) -> None:
        raise Parsed

    monkeypatch.setattr("coordination.ecosystem.document.parse", parsed)
    snapshot.cache_clear()
    return monkeypatch


def test_a_file_that_was_read_is_not_parsed_again(path: Path, request: pytest.FixtureRequest):
    first = load(path)
    request.getfixturevalue("no_parser")

    second = load(path)

    assert second == first
    assert second.warnings == first.warnings != ()
    assert second.ecosystem.coordination.todos[7].timeout == first.ecosystem.coordination.todos[7].timeout


def test_warnings_name_the_file_as_the_caller_does(path: Path, monkeypatch: pytest.MonkeyPatch):
    load(path)
    snapshot.cache_clear()
    monkeypatch.chdir(path.parent)

    assert {problem.file for problem in load(Path("ecosystem.yaml")).warnings} == {"ecosystem.yaml"}


def test_another_byte_is_another_file(path: Path):
    load(path)

    path.write_text(TEXT.replace("id: T-7,", "id: X-7,"))

    assert load(path).ecosystem.coordination.todos[7].id == "X-7"
    path.write_text(TEXT + "  - [\n")
    with pytest.raises(InvalidFile):
        load(path)


def spoil_content(kept: Path) -> None:
    content = bytearray(kept.read_bytes())
    content[-100] ^= 1
    kept.write_bytes(content)


def replace_by_a_link(kept: Path) -> None:
    kept.rename(kept.with_name("elsewhere"))
    kept.symlink_to("elsewhere")


UNTRUSTED = {
    "it was changed": spoil_content,
    "it ends early": lambda kept: kept.write_bytes(kept.read_bytes()[:-1]),
    "it is empty": lambda kept: kept.write_bytes(b""),
    "others may write it": lambda kept: kept.chmod(0o666),
    "others may write the folder": lambda kept: kept.parent.chmod(0o777),
    "it is a link": replace_by_a_link,
    "it is a pipe": lambda kept: (kept.unlink(), os.mkfifo(kept)),
}


@pytest.mark.parametrize("spoil", UNTRUSTED.values(), ids=UNTRUSTED.keys())
def test_what_cannot_be_trusted_is_not_loaded(
    path: Path, folder: Path, spoil: object, request: pytest.FixtureRequest
):
    load(path)
    (kept,) = folder.iterdir()
    spoil(kept)  # type: ignore[operator]
    request.getfixturevalue("no_parser")

    with pytest.raises(Parsed):
        load(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to others")
@pytest.mark.parametrize("of", ["file", "folder"])
def test_what_belongs_to_somebody_else_is_not_loaded(
    path: Path, folder: Path, of: str, request: pytest.FixtureRequest
):
    load(path)
    (kept,) = folder.iterdir()
    os.chown(kept if of == "file" else folder, 12345, -1)
    request.getfixturevalue("no_parser")

    with pytest.raises(Parsed):
        load(path)


def test_other_code_reads_anew(path: Path, no_parser: pytest.MonkeyPatch):
    no_parser.undo()
    load(path)
    no_parser.setattr(document, "_code", lambda: b"another version")

    assert document._load_cached(path.read_bytes(), path) is None


@pytest.mark.parametrize(
    "record", list(dict.fromkeys(layout.RECORDS.values())), ids=lambda record: record.__name__
)
def test_the_fingerprint_covers_the_code_of_every_record(record: type):
    assert repr(inspect.getfile(record)) in document._code().decode()


def test_only_the_user_can_look_into_it(path: Path, folder: Path):
    load(path)

    assert folder.stat().st_mode & 0o777 == 0o700
    assert [place.stat().st_mode & 0o777 for place in folder.iterdir()] == [0o600]


def test_it_does_not_grow(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(document, "CACHE_FILES", 3)
    (tmp_path / "0.yaml").write_text(TEXT)
    load(tmp_path / "0.yaml")
    (folder / "of a killed process.tmp").touch()
    for place in folder.iterdir():
        os.utime(place, (0, 0))

    for number in (1, 2, 3, 3):
        path = tmp_path / f"{number}.yaml"
        path.write_text(TEXT + f"# {number}\n")
        load(path)

    assert len(list(folder.iterdir())) == 3
    assert all(place.stat().st_mtime > 0 for place in folder.iterdir())


@pytest.mark.parametrize("home", ["", "/dev/null", "/proc"])
def test_where_nothing_can_be_kept_the_file_is_read_all_the_same(
    path: Path, home: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", home)

    assert load(path) == load(path)


def test_a_small_file_is_not_validated_again(path: Path, request: pytest.FixtureRequest):
    path.write_text("repos: [{name: r}]\n")
    first = load(path)
    request.getfixturevalue("no_parser")

    assert load(path) == first


def test_nothing_of_it_stands_beside_the_file(path: Path):
    assert parsing.parse(path.read_bytes(), path).document == load(path)
    assert {place.name for place in path.parent.iterdir()} == {"ecosystem.yaml", "cache"}
