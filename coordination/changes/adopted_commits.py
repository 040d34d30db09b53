"""Bundle the commits of an adopted branch, so that todos on other hosts find them, as after a settle.

The fields are those of a run's bundles (workers/transfer/bundles.py); a run that goes on from the change set
gets a copy of them. Where the whole history is too large for Redis, only the commits beyond the base branch
are bundled, and the base is fetched from the repository's url, or is in the clones of the other hosts.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from subprocess import TimeoutExpired
from tempfile import TemporaryDirectory

from coordination.git import ask_git, history_exceeds
from coordination.models import Repo

PATIENCE_S = 60.0
Fields = Mapping[str, bytes | str]


def bundle_of(checkout: Path, repo: Repo, branch: str, *, base: str, tip: str, limit_bytes: int) -> Fields:
    """Return the fields that lead other hosts to the tip of a branch, or say why none do."""
    if not _is_part(checkout) and not history_exceeds(checkout, branch, limit_bytes):
        whole = _bundle(checkout, branch, limit_bytes=limit_bytes)
        if whole:
            return {tip: whole}
    if part := _bundle(checkout, branch, f"^{base}", limit_bytes=limit_bytes):
        return {tip: part, f"{tip} since": base, f"{base} elsewhere": _place_of_base(repo, base)}
    why = (
        f"{repo.name}: {tip[:12]} was adopted and not sent to other hosts: what it adds is larger than "
        f"bundle_limit_bytes ({limit_bytes}); raise that, and adopt it again"
    )
    return {f"{tip} elsewhere": why}


def _place_of_base(repo: Repo, base: str) -> str:
    if repo.url:
        return f"remote {repo.branch} {repo.url}"
    return (
        f"{repo.name}: {base[:12]} of {repo.branch} is not here, and its history is too large to be sent; "
        "fetch it into the clone of this host"
    )


def _is_part(checkout: Path) -> bool:
    """Return whether the checkout is a shallow or partial clone."""
    shallow = ask_git(checkout, "rev-parse", "--is-shallow-repository") == "true"
    return shallow or bool(ask_git(checkout, "config", "--get", "extensions.partialClone"))


def _bundle(checkout: Path, branch: str, *without: str, limit_bytes: int) -> bytes:
    """Return a bundle; empty where git makes none, or one that is too large."""
    with TemporaryDirectory(prefix="coord-adopt-") as folder:
        file = Path(folder, "bundle")
        words = ("bundle", "create", "--quiet", str(file), f"refs/heads/{branch}", *without)
        try:
            ask_git(checkout, *words, timeout_s=PATIENCE_S)
        except TimeoutExpired:
            return b""
        if not file.exists() or file.stat().st_size > limit_bytes:
            return b""
        return file.read_bytes()
