"""Hostile todos in a sandbox: each does random harm to its git directory and its folder, and the next one, an
honest one, works there.

No Redis: an attempt is executed as a worker does. What may not change is compared after each: the refs, the
settings and the hooks of the repository, and all files outside of the worktree. The user has filters, a merge
driver and programs for differences that would leave a mark there; `base` is the only one that the repository
uses itself.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.attempts import RUN, Bench
from tests.chaos.figures import Figures
from tests.sandboxes import tried
from tests.testbed import git
from workers.outcome import OutcomeKind
from workers.workspace.files import remove_tree

IN_GIT = (
    "HEAD", "index", "index.lock", "config", "config.worktree", "packed-refs", "shallow", "commondir",
    "gitdir", "MERGE_HEAD", "MERGE_MODE", "ORIG_HEAD", "FETCH_HEAD", "COMMIT_EDITMSG", "logs",
    "logs/HEAD", "objects", "objects/info", "objects/info/alternates", "objects/info/commit-graph",
    "objects/pack", "objects/pack/multi-pack-index", "refs", "refs/heads", "refs/heads/coord",
    f"refs/heads/coord/{RUN}", "refs/replace", "refs/heads/main", "hooks", "hooks/pre-commit",
    "hooks/post-checkout", "info", "info/exclude", "info/attributes", "info/grafts",
    "info/sparse-checkout", "modules", "modules/sub/config", "worktrees", "sharedindex.0", "lfs",
    "lfs/objects/ab/cd/abcd",
)  # fmt: skip
IN_FOLDER = (
    ".gitignore", ".gitattributes", ".gitmodules", ".lfsconfig", ".GIT", "code", "sub", "sub/.git",
    "sub/.git/HEAD", "sub/.git/config", "sub/.git/commondir", "sub/.git/objects", "sub/.gitignore",
    "sub/.gitattributes", "ignored/sub/.git", "ignored/sub/.git/HEAD", "ignored/x", "hooks/pre-commit",
    "a/b/c", "code/x", "-f", ":(top)x", "x\ny", "\udcff", "link/x", "link",
)  # fmt: skip
COMMANDS = (
    "git add -A -f", "git commit -q --allow-empty -m x", "git commit -q -a -m x",
    "git commit -q --amend -m x", "git gc -q", "git repack -q -a -d", "git pack-refs --all",
    "git switch -q -c other", "git switch -q --detach", "git switch -q main",
    "git reset -q --hard HEAD~1", "git merge -q --no-commit --no-ff side", "git rm -q -r --cached .",
    "git init -q sub", "git init -q ignored/sub", "git worktree add -q w", "git replace HEAD HEAD~1",
    "git update-ref refs/heads/main HEAD", "git symbolic-ref HEAD refs/heads/main",
    "git config core.worktree {outside}", "git config core.fsmonitor 'touch {mark}'",
    "git config include.path {secret}", "git config filter.x.clean 'touch {mark}; cat'",
    "git config core.hooksPath {outside}", "git config extensions.worktreeConfig true",
    "git config core.alternateRefsCommand 'touch {mark}'",
    "git config uploadpack.packObjectsHook 'touch {mark}'", "git config core.sshCommand 'touch {mark}'",
    "git config protocol.ext.allow always", "git update-index --index-version 4",
    "git update-index --split-index", "git sparse-checkout set a",
    "git update-index --add --cacheinfo 160000,1111111111111111111111111111111111111111,sub",
    "git stash -q", "git tag -f v1", "git notes add -m x", "chmod -R 000 sub ignored",
    "mkdir -p $(python3 -c 'print(\"/\".join([\"d\"] * 400))')",
)  # fmt: skip
GIT_CONFIG = """\
[user]
	name = Ann
	email = ann@example.org
[filter "base"]
	clean = cat
	smudge = cat
[filter "x"]
	clean = touch {mark}; cat
	smudge = touch {mark}; cat
	required = true
[filter "p"]
	process = touch {mark}
[merge "x"]
	driver = touch {mark}
[diff "x"]
	textconv = touch {mark}; cat
	command = touch {mark}
"""
KINDS = (
    "link", "link", "pipe", "folder", "socket", "bytes", "text", "huge", "remove", "hard link", "append",
    "deep", "locked",
)  # fmt: skip
TEXTS = (
    "ref: refs/heads/main\n", "ref: refs/heads/../../../outside/file\n", "0" * 40 + "\n",
    "gitdir: {outside}\n", "gitdir: {other}/.git\n", "{other}/.git\n", "{other}/.git/objects\n",
    "* filter=x merge=x diff=x\n", "* filter=p\n", "[attr]code filter=x\n* code\n", "* filter=base\n", "*\n",
    "[include]\n\tpath = {secret}\n",
    "[core]\n\tfsmonitor = touch {mark}\n\tworktree = {outside}\n",
    '[submodule "sub"]\n\tpath = sub\n\turl = ext::touch {mark}\n\tupdate = !touch {mark}\n',
    "#!/bin/sh\ntouch {mark}\n", "[lfs]\n\turl = http://127.0.0.1:9/\n", "\x00" * 100,
)  # fmt: skip
LINKS = (
    "{secret}",
    "{outside}",
    "{outside}/new",
    "{other}/.git",
    "/dev/zero",
    "/proc/self/fd/0",
    ".",
    "..",
    "x",
)

SCRIPT = """
import json, os, socket, subprocess, sys
d = subprocess.run(["git", "rev-parse", "--absolute-git-dir"], capture_output=True, text=True).stdout.strip()
for place, kind, word in json.loads(os.environ["HARM"]):
    path = place.replace("{git}", d)
    try:
        if kind == "command":
            subprocess.run(word, shell=True, timeout=5, stdin=subprocess.DEVNULL)
            continue
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        if kind == "append":
            open(path, "ab").write(word.encode())
            continue
        if kind == "locked":
            os.chmod(path, 0)
            continue
        subprocess.run(["rm", "-rf", "--", path])
        if kind == "link": os.symlink(word, path)
        elif kind == "pipe": os.mkfifo(path)
        elif kind == "folder": os.makedirs(path + "/x")
        elif kind == "socket": socket.socket(socket.AF_UNIX).bind(path)
        elif kind == "bytes": open(path, "wb").write(os.urandom(3000))
        elif kind == "text":
            open(path, "w").write(word)
            os.chmod(path, 0o755)
        elif kind == "huge": os.truncate(os.open(path, os.O_RDWR | os.O_CREAT), 1 << 41)
        elif kind == "hard link": os.link("code", path)
        elif kind == "deep":
            here = os.getcwd()
            os.makedirs(path)
            os.chdir(path)
            for _ in range(1200):
                os.mkdir("d")
                os.chdir("d")
            os.chdir(here)
    except Exception as error:
        print(place, kind, error)
sys.exit(int(os.environ["ENDS"]))
"""
LATE_S = 120.0
"""More than an attempt takes on a loaded machine; a limit of the worker alone is 60 s."""


def main(minutes: float) -> Figures:
    if not tried().works:
        return Figures(measured=f"not run: {tried().why_not}")
    return attack(minutes * 60, random.randrange(10**6))


def attack(seconds: float, seed: int) -> Figures:
    """Execute hostile attempts for a time, each followed by an honest one."""
    chance, wrong, late = random.Random(seed), list[str](), list[str]()
    end, count, kinds = time.monotonic() + seconds, 0, dict[str, int]()
    while time.monotonic() < end and not wrong:
        with tempfile.TemporaryDirectory(prefix="coord-hostile-", ignore_cleanup_errors=True) as folder:
            scene = Scene(Path(folder), chance)
            for _ in range(12):
                if time.monotonic() > end or wrong:
                    break
                count += 1
                began = time.monotonic()
                kind, found = scene.round()
                kinds[kind] = kinds.get(kind, 0) + 1
                wrong += found
                if (took := time.monotonic() - began) > LATE_S:
                    late.append(f"{took:.0f} s: {scene.harm}")
            scene.remove()
    ends = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    return Figures(measured=f"{count} hostile todos ({ends}), seed {seed}", wrong=wrong, late=late)


class Scene:
    """A repository with everything that a todo could reach beside it."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self._chance = chance
        self._folder = folder
        self.harm = ""
        bench = self._bench = Bench(folder)
        home = folder / "home"
        home.mkdir()
        os.environ["HOME"] = str(home)
        (home / ".gitconfig").write_text(GIT_CONFIG.format(mark=folder / "outside" / "mark"))
        bench.make_repository()
        (bench.checkout / ".gitignore").write_text("ignored/\n*.cache\n")
        (bench.checkout / ".gitattributes").write_text("code filter=base\n")
        git(bench.checkout, "add", ".")
        git(bench.checkout, "commit", "-q", "-m", "ignore")
        git(bench.checkout, "branch", "side", "HEAD~1")
        self._places = {
            "outside": str(folder / "outside"),
            "other": str(bench.make_repository(folder / "other")),
            "secret": str(folder / "outside" / "secret"),
            "mark": str(folder / "outside" / "mark"),
        }
        (folder / "outside").mkdir()
        (folder / "outside" / "secret").write_text("[core]\n\tpager = x\n")
        if chance.random() < 0.5:
            bench.hook(
                "pre-commit", "git status --porcelain | head -3; sh hooks/pre-commit 2>/dev/null; true"
            )
        self._before = self._state()

    def round(self) -> tuple[str, list[str]]:
        """Execute a hostile attempt and an honest one; return how the first ended, and what is wrong."""
        harm = [self._one() for _ in range(self._chance.randint(1, 6))]
        self.harm = json.dumps(harm)
        env: dict[str, Any] = {"HARM": self.harm, "ENDS": str(int(self._chance.random() < 0.2))}
        bench, wrong = self._bench, list[str]()
        bound: dict[str, Any] = {"sandbox": {"kind": "bubblewrap"}, "timeout": "30s"}
        try:
            done = bench.attempt([sys.executable, "-c", SCRIPT], env=env, **bound)
            kind = str(done.kind)
            after = bench.attempt("date +%N > honest", tip=done.tip or None, **bound)
        except Exception as error:  # noqa: BLE001 (whatever a todo makes of it is a finding)
            return "error", [f"{error!r} after {self.harm}"]
        if done.kind not in (OutcomeKind.SUCCEEDED, OutcomeKind.REFUSED, OutcomeKind.FAILED):
            wrong.append(f"{done.kind}: {done.error} after {self.harm}")
        if after.kind is not OutcomeKind.SUCCEEDED and not _is_own_fault(after.error):
            wrong.append(f"the honest todo: {after.kind}: {after.error} after {self.harm}")
        now = self._state()
        for place in sorted(now.keys() | self._before.keys()):
            if now.get(place) != self._before.get(place):
                wrong.append(f"{place}: {self._before.get(place)} is {now.get(place)} after {self.harm}")
        if self._chance.random() < 0.1 and (said := git(bench.checkout, "fsck", "--strict", "--no-dangling")):
            wrong.append(f"{said} after {self.harm}")
        return kind, wrong

    def remove(self) -> None:
        remove_tree(self._bench.state)

    def _one(self) -> tuple[str, str, str]:
        choose = self._chance.choice
        if self._chance.random() < 0.4:
            return (
                "",
                "command",
                choose(COMMANDS).replace("{mark}", self._places["mark"]).format(**self._places),
            )
        kind = choose(KINDS)
        place = choose((*(f"{{git}}/{name}" for name in IN_GIT), *IN_FOLDER))
        word = choose(LINKS if kind == "link" else TEXTS)
        return place, kind, word.format(**self._places) if "{" in word else word

    def _state(self) -> dict[str, str]:
        """Return what no todo may change."""
        git_dir = self._bench.checkout / ".git"
        listed = git(self._bench.checkout, "for-each-ref", "--format=%(refname) %(objectname)")
        found = dict(line.split(" ") for line in listed.splitlines())
        found.pop(f"refs/heads/coord/{RUN}", None)
        skipped = {git_dir / name for name in ("objects", "worktrees", "logs", "refs", "index", "coord.lock")}
        for root in (
            self._folder / "outside",
            self._folder / "other",
            self._folder / "home",
            self._bench.checkout,
        ):
            for file in _files(root):
                if not any(file.is_relative_to(part) for part in skipped):
                    found[str(file.relative_to(self._folder))] = _digest(file)
        return found


def _is_own_fault(error: str) -> bool:
    """Return whether what the hostile todo has committed makes the honest one fail, as it may."""
    return "submodule" in error


def _files(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        yield from (Path(folder, name) for name in names)


def _digest(file: Path) -> str:
    if file.is_symlink():
        return f"link {file.readlink()}"
    return sha256(file.read_bytes()).hexdigest()[:12] if file.is_file() else "special"
