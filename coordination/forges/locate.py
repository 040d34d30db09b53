"""Find the forge and the project of a repository, by its `url` or its field `forge`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from coordination.errors import PlanRefused
from coordination.forges.models import ForgeType
from coordination.models import Repo

HOSTS = {
    "github.com": ForgeType.GITHUB,
    "gitlab.com": ForgeType.GITLAB,
    "codeberg.org": ForgeType.GITEA,
    "gitea.com": ForgeType.GITEA,
}
WORDS = {
    "github": ForgeType.GITHUB,
    "ghe": ForgeType.GITHUB,
    "gitlab": ForgeType.GITLAB,
    "gitea": ForgeType.GITEA,
    "forgejo": ForgeType.GITEA,
}
"""First label of the host name of a self-hosted forge → its type."""
APIS = {ForgeType.GITHUB: "/api/v3", ForgeType.GITLAB: "/api/v4", ForgeType.GITEA: "/api/v1"}
_SCP = re.compile(r"(?:[^@/:\s]+@)?(?P<host>\[[^\]]+\]|[^/:\s]+):(?!//)(?P<path>[^\s]+)")
_PROJECT = re.compile(r"[^/\s\x00-\x1f?#]+(/[^/\s\x00-\x1f?#]+)+")


@dataclass(frozen=True, kw_only=True)
class ForgeAddress:
    """A repository at a forge."""

    type: ForgeType
    api: str
    """Address of the API without a final slash, such as https://api.github.com."""
    project: str
    """`owner/name`; at GitLab with all groups."""
    host: str = ""
    """The host for which the token must be valid: that of the repository's `url`, else that of the API."""

    @property
    def api_host(self) -> str:
        return urlsplit(self.api).hostname or ""

    @property
    def is_foreign(self) -> bool:
        """Return whether the API is on a different host from the repository."""
        return self.api_host != self.host and (self.host, self.api_host) != ("github.com", "api.github.com")


def locate(repo: Repo) -> ForgeAddress:
    """Return the forge and project of a repository. Raises PlanRefused if the file does not state them."""
    rule = repo.forge
    host, port, path = _parts(repo.url or "")
    kind = (ForgeType(rule.type) if rule and rule.type else None) or _type_of(host)
    project = (rule.project if rule and rule.project else path).strip("/").removesuffix(".git")
    if kind is None:
        raise PlanRefused(
            f"{repo.name}: the forge at {host or repo.url or 'no url'} is not known",
            f"add to {repo.name} in the file: forge: {{type: github}} (or gitlab, gitea)",
        )
    if not _PROJECT.fullmatch(project) or ".." in project.split("/"):
        raise PlanRefused(
            f"{repo.name}: {project or 'its url'!r:.200} names no project of a forge",
            f"give {repo.name} a `url` like https://github.com/owner/name, or forge: {{project: owner/name}}",
        )
    api = (rule.api if rule and rule.api else _api(kind, host, port)).rstrip("/")
    _refuse_unsafe(repo.name, api)
    return ForgeAddress(type=kind, api=api, project=project, host=host or urlsplit(api).hostname or "")


def knows(repo: Repo) -> bool:
    """Return whether the forge of the repository is known."""
    try:
        locate(repo)
    except PlanRefused:
        return False
    return True


def _parts(url: str) -> tuple[str, int | None, str]:
    """Return the host, the port of a web server, and the path of a url; empty values for a local path."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ssh", "git", "git+ssh"):
            port = parts.port if parts.scheme in ("http", "https") else None
            return (parts.hostname or "").lower(), port, parts.path
    except ValueError:
        return "", None, ""
    found = _SCP.fullmatch(url)
    return (found["host"].strip("[]").lower(), None, found["path"]) if found else ("", None, "")


def _type_of(host: str) -> ForgeType | None:
    return HOSTS.get(host) or WORDS.get(host.partition(".")[0])


def _api(kind: ForgeType, host: str, port: int | None) -> str:
    if host == "github.com":
        return "https://api.github.com"
    named = f"[{host}]" if ":" in host else host
    return f"https://{named}{f':{port}' if port else ''}{APIS[kind]}"


def _refuse_unsafe(name: str, api: str) -> None:
    try:
        parts = urlsplit(api)
        host = parts.hostname or ""
        parts.port  # noqa: B018 -- raises for a port that is none
    except ValueError:
        parts, host = urlsplit(""), ""
    if not host or parts.scheme not in ("https", "http") or parts.query or parts.fragment or parts.username:
        raise PlanRefused(
            f"{name}: {api!r:.200} is not a valid address of an API",
            f"write it like https://HOST{APIS[ForgeType.GITHUB]}",
        )
    if parts.scheme == "http" and not _is_loopback(host):
        raise PlanRefused(
            f"{name}: {api!r:.200} is not encrypted, so others on the network could read the token",
            "use https; http is allowed for this machine only",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
