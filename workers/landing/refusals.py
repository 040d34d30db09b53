"""Read from the messages of git and of a remote why a step was refused.

Lines that a remote prints arrive as `remote: …`. They are shown, but only the reason of a declined push is
read from them: a hook cannot imitate trouble of the network by its output, or the other way round.
"""

from __future__ import annotations

import re
from subprocess import CompletedProcess

from coordination.credentials.masking import Masker
from coordination.terminal import CONTROLS
from coordination.text import shortened
from workers.credentials import secret_of
from workers.landing.records import BaseBranch, Reason, Refused
from workers.transfer.routes import hidden

LONGEST = 1000
"""The most characters of an error."""
READ = 20_000
"""Characters of its output that are looked at: a remote can print without end."""
_SEQUENCES = re.compile(r"\x1b(\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?)")
_UNSEEN = re.compile(f"[{CONTROLS}\\s]+")

_BY_WORDS: tuple[tuple[re.Pattern[str], Reason], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), reason)
    for pattern, reason in (
        (r"couldn't find remote ref", Reason.NO_BRANCH),
        (r"'lfs' is not a git command|missing or corrupt local objects", Reason.LARGE_FILES),
        (r"Working directory has (un)?staged changes|Could not update working tree", Reason.DIRTY),
        (r"returned error: 401|could not read (Username|Password)|Authentication failed"
            r"|Permission denied \((publickey|password|keyboard-interactive)|Host key verification failed",
            Reason.UNAUTHENTICATED),
        (r"returned error: (403|451)|permission to \S+ denied|not allowed to (push|upload)|access denied"
            r"|service not enabled|insufficient permission|unable to create temporary object directory"
            r"|transport '\S+' not allowed",
            Reason.FORBIDDEN),
        (r"returned error: (404|410)|repository '.*' not found|ERROR: Repository not found"
            r"|project you were looking for could not be found|strange (path|host)name",
            Reason.NO_REPOSITORY),
        (r"returned error: (408|425|429|5\d\d)|No space left on device|quota exceeded|Read-only file system"
            r"|Cannot allocate memory|internal server error|try again later|\.lock': File exists"
            r"|Up-to-date check failed|fatal error in commit_refs|failed to update ref|cannot lock ref",
            Reason.BUSY),
        (r"unable to access|Could not resolve|unable to connect|Connection (refused|reset|timed out|closed)"
            r"|Failed to connect|timed out|hung up unexpectedly|early EOF|RPC failed|unexpected disconnect"
            r"|No route to host|Network is unreachable|Operation too slow|does not appear to be a git repo",
            Reason.NETWORK),
    )
)  # fmt: skip
_CERTIFICATE = re.compile("certificate|SSL: no alternative|server verification failed", re.IGNORECASE)
_STALE = re.compile(r"\[rejected\]|fetch first|but expected|incorrect old value|reference already exists")
_STATUS = re.compile(r"^!\t[^\t]*\t(.*)$", re.MULTILINE)


def refused_by(at: BaseBranch, done: CompletedProcess[str]) -> Refused:
    """Return why a call of git to a remote was refused."""
    said = done.stderr[:READ] + done.stderr[READ:][-READ:]  # our git prints its messages last
    status = _STATUS.search(done.stdout[:READ])
    of_remote, own = _parted(said)
    if status is None:
        error = f"{_essence(own)} {_essence(of_remote)}".strip() or f"git ended with {done.returncode}"
        return Refused(reason=_reason(own), error=masked(at, error))
    text = status[1]
    essence = _essence(of_remote)
    if text.startswith("[rejected]"):
        return Refused(reason=Reason.MOVED, error=masked(at, f"{at.branch} is not where it was: {text}"))
    error = masked(at, f"{text}: {essence}" if essence else text)
    if _STALE.search(text) or _STALE.search(essence):
        return Refused(reason=Reason.MOVED, error=error)
    known = _reason(f"{text}\n{of_remote if 'hook' not in text else ''}\n{own}")
    return Refused(reason=Reason.DECLINED if known is Reason.UNKNOWN else known, error=error)


def masked(at: BaseBranch, text: str) -> str:
    """Return a text as one line of limited length: no secret, no login of a URL, no control characters."""
    text = _SEQUENCES.sub("", text[:READ]).encode(errors="replace").decode()
    if secret := secret_of(at.variables).strip():
        text = Masker([secret]).text(text)
    if at.url:
        text = text.replace(at.url, hidden(at.url))
    return shortened(hidden(_UNSEEN.sub(" ", text)).strip(), LONGEST)


def _reason(text: str) -> Reason:
    if _CERTIFICATE.search(text):
        return Reason.UNKNOWN
    return next((reason for pattern, reason in _BY_WORDS if pattern.search(text)), Reason.UNKNOWN)


def _parted(said: str) -> tuple[str, str]:
    """Return the lines that the remote printed, and the lines of the local git."""
    lines = re.split(r"[\r\n]+", said)
    of_remote = [line.removeprefix("remote:").strip() for line in lines if line.startswith("remote:")]
    return "\n".join(of_remote), "\n".join(line for line in lines if not line.startswith("remote:"))


def _essence(text: str) -> str:
    """Return the text without git's general advice."""
    skipped = ("error: failed to push some refs", "hint:", "Please make sure", "and the repository exists")
    return "\n".join(line for line in text.splitlines() if line and not line.startswith(skipped))
