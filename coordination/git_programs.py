"""Settings with which our git starts programs of its configuration without variables that redirect git.

git gives filters, merge drivers and hooks its GIT_DIR, in a worktree as an absolute path. A program that
makes a scratch repository elsewhere would then commit on the branch of the worktree, and write its settings
into the configuration that the checkout shares. Without the variables, git in it finds the repository by its
folder.

The configuration of a repository is read once, and again when one of its files has changed: the files that
git has read, those that it would read if they existed, and those that they include.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coordination.bounded import run
from coordination.errors import GitRefused
from coordination.files import expanded

REDIRECTING = (
    "GIT_DIR GIT_WORK_TREE GIT_IMPLICIT_WORK_TREE GIT_COMMON_DIR GIT_PREFIX GIT_CONFIG GIT_CONFIG_PARAMETERS "
    "GIT_NAMESPACE GIT_GRAFT_FILE GIT_SHALLOW_FILE GIT_INTERNAL_SUPER_PREFIX"
)
"""Variables that no program needs which our git starts."""
OF_OBJECTS = "GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES"
"""Variables without which a hook of a push cannot read what arrives."""

PATIENCE_S = 60.0
"""Seconds that git may take to read the configuration of a repository."""
NO_HOOKS = ("core.hooksPath=/dev/null", "core.fsmonitor=false")
"""Settings with which git starts no program of the hooks' folder, and no daemon."""

STARTS_NONE = frozenset(
    """cat-file check-ref-format commit-tree config for-each-ref ls-remote ls-tree merge-base rev-list
    rev-parse show-ref version""".split()  # noqa: SIM905
)
"""Commands of git that start none of these programs: most that we run."""
_UNSET = f"unset {REDIRECTING} {OF_OBJECTS} GIT_INDEX_FILE; "
_WITH_FILES = re.compile(r"filter\.(.*)\.(clean|smudge|process)|merge\.(.*)\.driver", re.DOTALL)
_HOOK = re.compile(r"hook\.(.*)\.command", re.DOTALL)
_INCLUDE = re.compile(r"include(if\..*)?\.path", re.DOTALL)
_ATTRIBUTES = "core.attributesfile"
OF_MACHINE = "/etc/gitattributes"
_OF_CONFIGURATION = (
    "GIT_DIR", "HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM",
)  # fmt: skip
"""Variables that say which files git reads."""
OF_EACH_REPOSITORY = "core.repositoryformatversion"
REPOSITORIES_KEPT = 64


@dataclass(frozen=True, kw_only=True)
class _Configuration:
    programs: Mapping[str, str]
    """Command by key."""
    attributes: Sequence[str]
    """Files of the attributes that machine and user give to all repositories."""
    stamps: Mapping[str, tuple[int, int, int] | None]
    """Time, size and number of each file; None if it is missing."""
    is_whole: bool
    """False if git cannot read it, or there is no repository."""


_read: dict[tuple[str | None, ...], _Configuration] = {}


def program_settings(
    folder: Path, command: Sequence[str], environ: Mapping[str, str], *, hooks: bool = False
) -> tuple[str, ...]:
    """Return settings for a command of git in this folder, with this environment. `hooks`: hooks run that the
    configuration names, as newer versions of git do. Raises OSError.
    """
    if command[0] in STARTS_NONE:
        return ()
    return tuple(_settings(_known(folder, environ).programs, hooks=hooks))


@dataclass(frozen=True, kw_only=True)
class Drivers:
    """The filters and merge drivers for which a configuration has programs."""

    names: frozenset[tuple[str, str]]
    """`filter` or `merge`, and the name."""
    attributes: Sequence[str]
    """Files of the attributes that machine and user give to all repositories; they may be missing."""


def drivers(folder: Path, environ: Mapping[str, str]) -> Drivers:
    """Return the drivers that git may start in this folder, with this environment. Raises OSError."""
    known = _known(folder, environ)
    found = (match for key in known.programs if (match := _WITH_FILES.fullmatch(key)))
    names = (("merge", match[3]) if match[1] is None else ("filter", match[1]) for match in found)
    return Drivers(names=frozenset(names), attributes=known.attributes)


def _known(folder: Path, environ: Mapping[str, str]) -> _Configuration:
    key = (str(folder), *(environ.get(name) for name in _OF_CONFIGURATION))
    known = _read.get(key)
    if known is None or any(_stamp(file) != stamp for file, stamp in known.stamps.items()):
        known = _configuration(folder, environ)
        if not known.is_whole:
            return known
        while len(_read) >= REPOSITORIES_KEPT:
            _read.pop(next(iter(_read)), None)
        _read[key] = known
    return known


def _settings(programs: Mapping[str, str], *, hooks: bool) -> Iterator[str]:
    for key, program in programs.items():
        if "=" in key or not program:  # git's option ends the key at `=`; git starts no empty program
            continue
        named = _HOOK.fullmatch(key)
        yield f"hook.{named[1]}.enabled=false" if named and not hooks else f"{key}={_UNSET}{program}"


def _configuration(folder: Path, environ: Mapping[str, str]) -> _Configuration:
    command = ["git", "-C", str(folder), "config", "--null", "--show-origin", "--list"]
    try:
        answer = run(command, timeout_s=PATIENCE_S, errors="surrogateescape", env=dict(environ))
    except subprocess.TimeoutExpired as error:
        raise GitRefused(
            f"git does not read the configuration of {folder} within {PATIENCE_S:g} s",
            "look for a file in it that does not end, such as a pipe that it includes",
        ) from error
    files, programs = dict.fromkeys(_possible(environ)), dict[str, str]()
    attributes, is_whole = f"{_user_folder(environ)}/attributes", False
    words = iter(answer.stdout.split("\0"))
    for origin, entry in zip(words, words, strict=False):
        file = folder / origin.removeprefix("file:")
        files[str(file)] = None
        name, _, value = entry.partition("\n")
        is_whole |= name == OF_EACH_REPOSITORY
        if _WITH_FILES.fullmatch(name) or _HOOK.fullmatch(name):
            programs[name] = value
        elif name == _ATTRIBUTES:
            attributes = str(expanded(value))
        elif _INCLUDE.fullmatch(name):
            files[str(file.parent / expanded(value))] = None
    return _Configuration(
        programs=programs,
        attributes=(OF_MACHINE, attributes),
        stamps={name: _stamp(name) for name in files},
        is_whole=is_whole and answer.returncode == 0,
    )


def _possible(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield files of the configuration that git reads as soon as they exist."""
    yield environ.get("GIT_CONFIG_SYSTEM") or "/etc/gitconfig"
    yield environ.get("GIT_CONFIG_GLOBAL") or f"{environ.get('HOME', '')}/.gitconfig"
    yield f"{_user_folder(environ)}/config"
    if git_dir := environ.get("GIT_DIR"):
        yield f"{git_dir}/config.worktree"


def _user_folder(environ: Mapping[str, str]) -> str:
    home = environ.get("HOME", "")
    return f"{environ.get('XDG_CONFIG_HOME') or f'{home}/.config'}/git"


def _stamp(file: str) -> tuple[int, int, int] | None:
    try:
        found = Path(file).stat()
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
