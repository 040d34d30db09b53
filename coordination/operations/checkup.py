"""Facts for `doctor.py`, collected from the file, this machine and Redis as far as they are available."""

from __future__ import annotations

import shutil
import stat
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis

from coordination.backend.address import hide_password, is_open_to_readers
from coordination.backend.client import reaching
from coordination.backend.key_table import set_apart
from coordination.backend.keys import APART
from coordination.backend.server_check import ask_for_commands, judge, missing, version_of
from coordination.credentials.records import Purpose
from coordination.credentials.store import CredentialStore, credentials_file
from coordination.disk import shortage
from coordination.ecosystem.document import Document, load
from coordination.errors import CoordinationError, InvalidFile, NotFound, Unreadable
from coordination.files import loose, why_no_folder
from coordination.health.store import HealthStore
from coordination.models import Ecosystem, SandboxKind, Signatures
from coordination.operations.agent_check import look_at_agents, program_of
from coordination.operations.doctor import Checkup, File, LivingWorker, Server
from coordination.operations.executable import broken_checkouts, not_transferable
from coordination.operations.listening import look_at_certificate
from coordination.operations.machine_check import Machine
from coordination.runs.connection import Connection
from coordination.runs.signed.orders import signatures_in_force
from coordination.runs.views.metrics import Queue, queue_lengths
from coordination.runs.views.records import RunView
from coordination.sandbox import probe
from coordination.settings import Settings
from coordination.text import install_extra
from coordination.trust.administration import Review, review
from coordination.trust.trust_file import trust_path

READABLE_BY_OTHERS = stat.S_IRGRP | stat.S_IROTH


def look_at_file(path: Path, settings: Settings) -> File:
    """Return the facts about the file, valid or not. Raises NotFound, or CoordinationError if it
    cannot be read.
    """
    try:
        document = load(path)
    except InvalidFile as error:
        return File(path=str(path), problems=tuple(map(str, error.problems)))
    ecosystem = document.ecosystem
    url = ecosystem.settings.get("redis_url", "")
    shown = hide_password(url) != url and bool(path.stat().st_mode & READABLE_BY_OTHERS)
    names = tuple(repo.name for repo in ecosystem.repos)
    return File(
        path=str(path),
        repos=names,
        ecosystem_id=ecosystem.coordination.id or "",
        shows_password=shown,
        too_large=not_transferable(document, settings, names),
        absent=_absent(document),
        asks_for_sandbox=_asks_for_sandbox(ecosystem),
        over_http=tuple(repo.name for repo in ecosystem.repos if (repo.url or "").startswith("http:")),
        broken_checkouts=tuple(broken_checkouts(document)),
    )


def _absent(document: Document) -> dict[str, str]:
    """Return the repositories with a path that is no folder on this machine, each with the reason."""
    places = {repo.name: document.repo_path(repo) for repo in document.ecosystem.repos}
    return {name: why for name, place in places.items() if place and (why := why_no_folder(place))}


def _asks_for_sandbox(ecosystem: Ecosystem) -> bool:
    """Return whether a repository or a todo requires a sandbox."""
    of_repos = (repo.sandbox for repo in ecosystem.repos)
    of_todos = (todo.sandbox for todo in ecosystem.coordination.todos)
    return any(rules and rules.kind is SandboxKind.BUBBLEWRAP for rules in (*of_repos, *of_todos))


def look_at_machine(
    settings: Settings,
    folders: Iterable[Path],
    state: Path,
    changed_folders: Sequence[Path] = (),
    *,
    asks_for_sandbox: bool = False,
    over_http: Sequence[str] = (),
) -> Machine:
    """Return the facts about this machine. `folders`: those whose disks need space; `state`: state folder of
    the worker; `changed_folders`: folders that todos change; `asks_for_sandbox`: a todo or repository
    requires a sandbox; `over_http`: repositories with such a url.
    """
    program = program_of(settings.agent_command)
    sandbox_asked = asks_for_sandbox or settings.sandbox in ("bubblewrap", "require")
    uses = sandbox_asked or (settings.sandbox == "auto" and bool(settings.presets))
    return Machine(
        host=settings.this_host,
        version=version("coord"),
        git=_git_version(),
        agent=program,
        agent_found=program is None or shutil.which(program) is not None,
        agents=look_at_agents(settings, state),
        missing=tuple(_missing(settings)),
        sandbox=probe() if uses else None,
        sandbox_asked=sandbox_asked,
        certificate=look_at_certificate(settings, datetime.now(UTC)),
        short=shortage(folders, settings.disk_min),
        loose=tuple(map(str, loose(state))),
        credentials=tuple(_credentials(datetime.now(UTC), over_http)),
        trust=_trust(changed_folders),
        signatures=_signatures(settings),
    )


def _trust(changed_folders: Sequence[Path]) -> Review:
    try:
        return review(trust_path(), list(changed_folders), datetime.now(UTC))
    except CoordinationError as error:  # HOME is not set
        return Review(errors=((error.message, error.hint),))


def _signatures(settings: Settings) -> str:
    """Return the setting `signatures` in force for a worker of this machine."""
    if settings.redis_url is None:
        return (settings.signatures or Signatures.OFF).value
    return signatures_in_force(settings, settings.redis_url).value


def _credentials(now: datetime, over_http: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the problems of the credentials of this machine, each with a remedy; reads no secret."""
    try:
        for one in CredentialStore(credentials_file()).all():
            if words := one.expiry_words(now):
                yield words, f"coord credential rotate {one.name} REFERENCE --expires DAY"
            if {Purpose.READ, Purpose.WRITE} & set(one.purposes):
                for repo in filter(one.repos.__contains__, over_http):
                    yield (
                        f"git does not use the credential {one.name} for {repo}: its url is http, and would "
                        "show the secret to others",
                        f"change the url of {repo} to https",
                    )
            if Purpose.WEBHOOK in one.purposes and find_spec("uvicorn") is None:
                yield (
                    f"the credential {one.name} is for webhooks, and coord gateway lacks Uvicorn here",
                    f"{install_extra('web')}; or revoke it where no gateway runs",
                )
    except CoordinationError as error:
        yield error.message, error.hint


def _missing(settings: Settings) -> Iterator[str]:
    """Yield the programs of settings for workers that are not installed."""
    for name in ("notify_command", "progress_command"):
        if (program := program_of(getattr(settings, name))) and shutil.which(program) is None:
            yield f"{name}'s program {program!r}"


def look_at_redis(url: str, settings: Settings, *, embedded: bool, checkup: Checkup) -> Checkup:
    """Return the checkup extended by Redis, or by the reason why it cannot be queried."""
    checkup = replace(checkup, server=Server(address=hide_password(url), embedded=embedded))
    try:
        connection = Connection(url, settings)
        with closing(connection.redis), reaching(url):
            server = _server(connection.redis.info(), url, embedded=embedded)
            with suppress(redis.ResponseError):  # the command may not be permitted
                server = replace(
                    server, findings=(*server.findings, *missing(ask_for_commands(connection.redis)))
                )
            checkup = replace(checkup, server=server)
            with suppress(redis.exceptions.NoPermissionError):  # a worker does it instead
                set_apart(connection.redis, settings.namespace)
            return _ask(connection, checkup)
    except CoordinationError as error:
        return replace(checkup, trouble=error)
    except redis.ResponseError:  # for example, a cluster redirects our keys; the findings from INFO report it
        if not checkup.server or not checkup.server.findings:
            raise
        return checkup


def _ask(connection: Connection, checkup: Checkup) -> Checkup:
    asked, now_ms, answered = time.time(), connection.store.now_ms(), time.time()
    machine = replace(checkup.machine, clock_offset_ms=round((asked + answered) * 500 - now_ms))
    workers, gone = _living_workers(connection, now_ms)
    known = replace(
        checkup,
        machine=machine,
        workers=workers,
        gone=gone,
        breakers=connection.breakers.list(),
        health=HealthStore(connection.redis, connection.keys).records(),
        runs=tuple(_read(connection, connection.store.live_runs())),
    )
    known = replace(known, half_undone=tuple(_read(connection, connection.reader.half_undone())))
    return replace(
        known,
        queues=_queues(connection, known.repos, {*gone, *(one.worker.host for one in workers)}),
        damaged=tuple(_damaged(connection)),
        apart=_apart(connection),
        ecosystem_held=connection.registry.ecosystem(),
        poison=connection.redis.llen(connection.keys.poison),
        poison_key=connection.keys.poison,
    )


def _apart(connection: Connection) -> tuple[str, ...] | None:
    try:
        return tuple(
            sorted(connection.redis.scan_iter(match=f"{connection.keys.namespace}:{APART}*", count=1000))
        )
    except redis.exceptions.NoPermissionError:
        return None


def _read(connection: Connection, ids: Iterable[str]) -> Iterator[RunView]:
    for run_id in ids:
        with suppress(NotFound, Unreadable):  # it has expired in the meantime; or `_damaged` reports it
            yield connection.reader.read(run_id)


def _damaged(connection: Connection) -> Iterator[str]:
    for run_id in {*connection.store.live_runs(), *connection.reader.half_undone()}:
        try:
            connection.reader.read(run_id)
        except NotFound:
            continue
        except Unreadable as error:
            yield error.message


def _server(info: Mapping[str, Any], url: str, *, embedded: bool) -> Server:
    aof = info.get("aof_enabled")
    return Server(
        address=hide_password(url),
        embedded=embedded,
        software=version_of(info),
        used_memory=int(info.get("used_memory", 0)),
        maxmemory=int(info.get("maxmemory", 0)),
        policy=str(info.get("maxmemory_policy", "")),
        append_only=None if aof is None else bool(aof),
        in_plain_text=is_open_to_readers(url),
        findings=judge(info),
    )


def _living_workers(
    connection: Connection, now_ms: int
) -> tuple[tuple[LivingWorker, ...], Mapping[str, float]]:
    """Return living workers, and hosts that have only dead ones, each with the seconds since the last
    heartbeat.
    """
    last = dict(connection.redis.zrange(connection.keys.workers, 0, -1, withscores=True))
    ago = {worker_id: max(0.0, (now_ms - at_ms) / 1000) for worker_id, at_ms in last.items()}
    workers = tuple(
        LivingWorker(worker=worker, ago_s=ago.get(worker.id, 0.0)) for worker in connection.registry.workers()
    )
    living = {one.worker.host for one in workers}
    gone: dict[str, float] = {}
    for worker_id, ago_s in ago.items():
        host = worker_id.partition("@")[2]
        if host not in living:
            gone[host] = min(ago_s, gone.get(host, ago_s))
    return tuple(sorted(workers, key=lambda one: (one.worker.host, one.worker.id))), gone


def _queues(connection: Connection, repos: Sequence[str], hosts: Iterable[str]) -> Mapping[Queue, int]:
    return queue_lengths(
        connection.redis, connection.keys, [(repo, host) for repo in repos for host in (None, *sorted(hosts))]
    )


def _git_version() -> str | None:
    try:
        answer = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.removeprefix("git version ").strip()
