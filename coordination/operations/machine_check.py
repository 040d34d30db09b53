"""Problems of the machine on which `coord doctor` runs, each with a remedy. Pure, as `doctor.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from coordination.backend.server_check import Finding
from coordination.operations.listening import CertificateState
from coordination.sandbox import Probed
from coordination.settings import COMMAND_AGENT
from coordination.text import counted
from coordination.trust.administration import Review


@dataclass(frozen=True, kw_only=True)
class AgentCheck:
    """An agent on this machine. Empty texts: nothing is known, or nothing is wrong."""

    name: str
    kind: str
    program: str
    path: str = ""
    """The place of the program; empty: not in PATH."""
    version: str = ""
    why_no_version: str = ""
    tested: str = ""
    """The range of versions that was tested."""
    is_untested: bool = False
    login: str = ""
    """The variable or the file with its login."""
    logins: tuple[str, ...] = ()
    """Variables that can log it in."""
    personal: str = ""
    """The file with the login of the person who uses this account."""
    hidden: str = ""
    """The folder of the program that a sandbox does not show."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine on which the check runs."""

    host: str
    version: str
    """Version of coord."""
    git: str | None
    """Version of git; None if it is not installed."""
    agent: str | None = None
    """Program of `agent_command`."""
    agent_found: bool = True
    agents: tuple[AgentCheck, ...] = ()
    """The agents of the settings."""
    missing: Sequence[str] = ()
    """Other settings whose program is not installed, each with the program."""
    clock_offset_ms: int | None = None
    """Milliseconds by which the clock is ahead of Redis."""
    sandbox: Probed | None = None
    """Result of trying bubblewrap; None if no todo of this ecosystem uses it."""
    sandbox_asked: bool = False
    """A todo, repository or setting requires a sandbox; otherwise it is used where it works."""
    certificate: CertificateState | None = None
    """Certificate of the servers of this machine; None if none is configured."""
    short: str = ""
    """Phrase about missing space on the disk of the state folder; "" if there is enough."""
    loose: tuple[str, ...] = ()
    """Files in the local state folder that other users can read."""
    credentials: tuple[tuple[str, str], ...] = ()
    """Problems of credentials, such as a near expiry, each with a remedy."""
    trust: Review = field(default_factory=Review)
    """Identity of this user and trust file of this machine."""
    signatures: str = "off"
    """The setting `signatures` of workers here: off, warn or require."""


def machine_findings(machine: Machine, *, embedded: bool, reports: bool) -> Iterator[Finding]:
    """Yield findings about this machine. They are errors with the embedded server; otherwise only workers'
    machines matter. `reports`: a worker of this machine reports a lack of space by itself.
    """
    yield from _tools(machine, embedded=embedded, reports=reports)
    yield from _agents(machine, embedded=embedded)
    yield from _programs(machine)
    yield from _sandbox(machine)
    yield from _certificate(machine)
    yield from _loose(machine)
    yield from _trust(machine)


def _tools(machine: Machine, *, embedded: bool, reports: bool) -> Iterator[Finding]:
    finding = Finding.wrong if embedded else Finding.warning
    if machine.short and not reports:
        yield finding(machine.short, "free space (coord run clean lists data of runs), or set disk_min")
    if machine.git is None:
        yield finding("git is not installed on this machine", "install git")
    if not machine.agent_found:
        problem = f"agent_command's program {machine.agent!r} is not in PATH on this machine"
        yield finding(
            problem,
            "install it, or correct agent_command"
            + ("" if embedded else " (only the workers' machines need it)"),
        )


def _agents(machine: Machine, *, embedded: bool) -> Iterator[Finding]:
    where = "" if embedded else " (only the workers' machines need it)"
    for one in machine.agents:
        agent = f"agent {one.name}"
        if not one.path and one.name != COMMAND_AGENT:
            finding = Finding.wrong if embedded else Finding.warning
            yield finding(
                f"{agent}: its program {one.program!r} is not in PATH on this machine",
                f"install it, or correct `command` of the agent{where}",
            )
        if not one.path:
            continue
        if one.hidden:
            yield Finding.warning(
                f"{agent}: a sandbox does not show {one.hidden}, where its program lies",
                "install it elsewhere, such as in /opt; or name its folder: COORD_SANDBOX_READABLE",
            )
        if one.is_untested:
            yield Finding.warning(
                f"{agent}: {one.program} {one.version} is outside of the versions that were tested, "
                f"{one.tested}",
                f"install one of them; or try it with a small todo, and look at its log{where}",
            )
        if one.logins and not one.login:
            yield Finding.warning(
                f"{agent}: no login of {one.program} was found on this machine",
                f"set {' or '.join(one.logins)} in the worker's environment{where}",
            )
        if one.personal:
            yield Finding.warning(
                f"{agent}: {one.personal} is a person's own login, in reach of whatever the agent runs",
                f"use a key of its own: set {one.logins[0]} in the worker's environment, and remove the file "
                f"from the worker's account{where}",
            )


def _programs(machine: Machine) -> Iterator[Finding]:
    for program in machine.missing:
        yield Finding.warning(
            f"{program} is not in PATH on this machine",
            "install it, or correct the setting (only machines of workers that may lead maintenance need it)",
        )


def _sandbox(machine: Machine) -> Iterator[Finding]:
    if machine.sandbox is None or machine.sandbox.works:
        return
    finding, effect = (
        (Finding.wrong, "todos that demand a sandbox fail here")
        if machine.sandbox_asked
        else (Finding.warning, "agents run without a sandbox here, with all rights of the worker's user")
    )
    yield finding(
        f"{effect}: {machine.sandbox.why_not}", f"{machine.sandbox.hint}; or do without: sandbox: off"
    )


def _certificate(machine: Machine) -> Iterator[Finding]:
    certificate = machine.certificate
    if certificate and certificate.problem:
        yield Finding.wrong(certificate.problem, certificate.hint)
    elif certificate and certificate.soon:
        yield Finding.warning(
            f"the certificate {certificate.path} expires at {certificate.expires}",
            "renew it: running servers take the new one up by themselves",
        )


def _loose(machine: Machine) -> Iterator[Finding]:
    if machine.loose:
        yield Finding.warning(
            f"other users of this machine can read {counted(len(machine.loose), 'file')} in the state "
            f"folder, for example {machine.loose[0]}",
            "the next worker that starts here corrects that; to do it now: chmod -R go= .coord",
        )


def _trust(machine: Machine) -> Iterator[Finding]:
    for problem, hint in machine.trust.errors:
        yield Finding.wrong(problem, hint)
    for problem, hint in machine.trust.warnings:
        yield Finding.warning(problem, hint)
    if machine.signatures == "require" and not machine.trust.trust_file:
        yield Finding.wrong(
            "signatures are required and this machine has no trust file, so todos wait here",
            "coord trust add LINE --role ROLE",
        )
