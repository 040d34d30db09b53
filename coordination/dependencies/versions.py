"""Versions of checkouts, from the manifest or the newest tag, and the search for a pattern in a command's
output.

Manifests are read in the order below; the first one with a version counts. A manifest that leaves its version
to git (setuptools-scm, hatch-vcs and the like) or has none is followed by the tags. Versions that a manifest
computes by running code cannot be read.

Patterns are searched in a process of their own, which can be killed if a pattern backtracks for ever; in a
thread it could not be stopped, and would block all other threads. The process costs 25 ms.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import IO

from packaging.version import Version
from semantic_version import Version as Semantic

from coordination.dependencies import manifests, semver
from coordination.dependencies.constraints import Rules, rules_for
from coordination.environment import without_ours
from coordination.errors import CoordinationError, NotFound
from coordination.git import ask_git

_VERSION = re.compile(r"\d+\.\d")
"""Version with at least two numbers: tags like `v3` are moved along, and `2026` may count something else."""


def newest_version_tag(folder: Path) -> str | None:
    """Return the tag with the highest version among those that HEAD contains; a later fix of 1.4 is not newer
    than 2.0.
    """
    tags = ask_git(folder, "tag", "--merged", "HEAD").split("\n")
    versions = {tag: order for tag in tags if (order := _order(without_prefix(tag, folder.name)))}
    return max(versions, key=versions.__getitem__, default=None)


def without_prefix(tag: str, name: str) -> str:
    """Return the version of a tag: `v1.2`, `release-1.2`, or in a shared repository `name-v1.2`, `name@1.2`,
    `name/1.2`.
    """
    return re.sub(rf"^(?:(?:release|version|{re.escape(name)})[-@/_])?[vV]?(?=\d)", "", tag)


def _order(text: str) -> tuple[Version, Semantic] | None:
    """Return a sort key with both orders; a version that only one can read is represented by its release in
    the other.
    """
    if not _VERSION.match(text):
        return None
    try:
        version = Version(text)
        return version, _semantic(text) or Semantic("0.0.0")
    except ValueError:
        semantic = _semantic(text)
        return (Version(f"{semantic.truncate()}.dev0"), semantic) if semantic else None


def _semantic(text: str) -> Semantic | None:
    try:
        return semver.read_version(text)
    except semver.InvalidVersion:
        return None


Reader = Callable[[Path], str | None]
"""Function from a folder to its version; None if there is no manifest or version. Raises
CoordinationError.
"""

MANIFESTS: dict[str, tuple[Rules, Reader]] = {
    "pyproject.toml": (Rules.PYTHON, manifests.pyproject_version),
    "package.json": (Rules.NPM, manifests.npm_version),
    "Cargo.toml": (Rules.CARGO, manifests.cargo_version),
    "setup.cfg": (Rules.PYTHON, manifests.setup_cfg_version),
}


@dataclass(frozen=True, kw_only=True)
class Found:
    version: str
    source: str
    """Origin of the version: `pyproject.toml`, `tag v1.2.3`."""
    rules: Rules


def find_version(folder: Path) -> Found:
    """Return the version of a checkout. Raises NotFound with all places searched, CoordinationError for a
    damaged manifest.
    """
    for name, (rules, read) in MANIFESTS.items():
        if version := read(folder):
            return Found(version=version, source=name, rules=rules)
    if tag := newest_version_tag(folder):
        return Found(
            version=without_prefix(tag, folder.name), source=f"tag {tag}", rules=_rules_by_name(folder)
        )
    looked = ", ".join(MANIFESTS)
    raise NotFound(
        f"no version found in {folder}: none in {looked}, and no tag like v1.2.3 in the history of HEAD"
    )


def find_rules(folder: Path) -> Rules:
    """Return the rules by which the folder's version is judged, or would be if it had one."""
    try:
        found = find_version(folder)
    except CoordinationError:
        return _rules_by_name(folder)
    return rules_for(found.version, found.rules)


def _rules_by_name(folder: Path) -> Rules:
    return next((rules for name, (rules, _) in MANIFESTS.items() if (folder / name).is_file()), Rules.ANY)


def why_not(error: CoordinationError) -> str:
    """Return the error's message and hint on one line."""
    return f"{error.message}; {error.hint}" if error.hint else error.message


LOOK_S = 0.05
HALF = 4 * 1024 * 1024
"""Bytes of output that are searched, from the start and from the end each."""
SEARCH = """\
import json, re, sys
fits = re.compile(json.loads(sys.stdin.buffer.readline())).search
*lines, rest = sys.stdin.buffer.read().decode(errors="replace").replace("\\r\\n", "\\n").split("\\n")
lines += [rest.rstrip("\\r")] if rest else []
sys.exit(10 if any(map(fits, dict.fromkeys(lines))) else 11)
"""
ENDS = {10: True, 11: False}


@dataclass(kw_only=True)
class SearchedOutput:
    """The output to be searched: all of it, or its start and end if it is very long."""

    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    cut: bool = False

    def take(self, chunk: bytes) -> None:
        room = HALF - len(self.head)
        self.head += chunk[:room]
        self.tail += chunk[room:]
        if len(self.tail) > 2 * HALF:
            del self.tail[:-HALF]
            self.cut = True

    def text(self) -> bytes:
        """Return the bytes to be searched, without the partial lines at a cut."""
        if not self.cut:
            return bytes(self.head + self.tail)
        return bytes(self.head[: self.head.rfind(b"\n") + 1] + self.tail[self.tail.find(b"\n") + 1 :])


def fits_a_line(pattern: str, text: bytes, *, until: float, stopped: Event) -> bool | None:
    """Return whether a line matches; None if that is not known at `until` (monotonic clock) or on
    cancellation.
    """
    given = json.dumps(pattern).encode() + b"\n" + text
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", SEARCH],
        env=without_ours(os.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    Thread(target=_feed, args=(process.stdin, given), daemon=True).start()
    try:
        while time.monotonic() < until and not stopped.is_set():
            with suppress(subprocess.TimeoutExpired):
                return ENDS.get(process.wait(LOOK_S))
    finally:
        process.kill()
        process.wait()
    return None


def _feed(stdin: IO[bytes], given: bytes) -> None:
    """Write the input in a thread, because `communicate` cannot resume after a timeout (CPython drops the
    rest of the input).
    """
    with suppress(OSError), stdin:  # the process was killed
        stdin.write(given)
