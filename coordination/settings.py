"""Every figure of coord that someone may want to change, and the only reader of the environment.

A setting is taken, first match: the command line, `COORD_<NAME>`, `settings:` in ecosystem.yaml, the default here.
Durations are written as in the file: `90s`, `10m`, or seconds.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from coordination.errors import NotAllowed, UsageError
from coordination.models import Backoff, Command, Duration, Jitter, Size, Text, WriteBack, lower_case
from coordination.text import wrong_value

ENV_PREFIX = "COORD_"
COMMIT_FIELDS = ("task", "todo", "plan", "run")
"""What a commit's message may name."""


def _split(value: object) -> object:
    """Accept `a, b` where a list is wanted: the environment has no lists."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError as error:
        raise ValueError("needs addresses or networks like 10.0.0.7 or 10.0.0.0/8") from error


Networks = Annotated[tuple[Annotated[str, AfterValidator(_network)], ...], BeforeValidator(_split)]


def _commit_message(value: str) -> str:
    try:
        plain = all(
            name is None or (name in COMMIT_FIELDS and not spec and conversion is None)
            for _, name, spec, conversion in Formatter().parse(value)
        )
    except ValueError:
        plain = False
    if not plain:
        raise ValueError(f"may name {', '.join(f'{{{name}}}' for name in COMMIT_FIELDS)}; write {{{{ for a brace")
    return value


class Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    redis_url: Annotated[Text | None, Field(repr=False)] = None
    """redis://, rediss:// or unix://; none means the embedded server."""
    namespace: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=40)] = "coord"
    """Head of every Redis key and queue: two ecosystems on one Redis do not meet."""
    agent_command: Command | None = None
    """What carries out agent todos; gets the prompt on standard input."""
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=100)] | None = None
    """What this machine is called, where its host name changes (a container) or is not unique. Never in the file."""

    lease_ttl: Duration = timedelta(seconds=15)
    """A todo whose worker has not been heard of for this long is taken up again."""
    heartbeat: Duration = timedelta(seconds=5)
    lost_leases: Annotated[int, Field(ge=1)] = 3
    """How often a todo may lose its worker before it counts as failed."""
    reaper: bool = True
    """Whether workers look after what a crash left behind."""
    jobs: Annotated[int, Field(ge=1)] | None = None
    """How many todos a worker carries out at once, on all its repositories together. None: as many as it may use processors."""
    todo_timeout: Duration = timedelta(hours=1)
    kill_grace: Duration = timedelta(seconds=5)
    """Between TERM and KILL."""
    commit_message: Annotated[str, Field(min_length=1), AfterValidator(_commit_message)] = "{todo}: {task}"
    """Of a todo's commit, before the trailers; may name {task}, {todo}, {plan} and {run}."""
    commit_hooks: Literal["run", "skip"] = "run"
    """Whether git hooks run when a todo's changes are committed."""
    retry_attempts: Annotated[int, Field(ge=1, le=100)] = 1
    """Of a todo that says nothing of its `retry`, and whose plan does not either; lost workers count towards `lost_leases`."""
    retry_strategy: Backoff = Backoff.EXPONENTIAL
    retry_delay: Duration = timedelta(seconds=1)
    retry_factor: Annotated[float, Field(ge=1)] = 2.0
    retry_max_delay: Duration = timedelta(seconds=30)
    retry_jitter: Jitter = Jitter.FULL
    breaker_failures: Annotated[int, Field(ge=0, le=1000)] = 5
    """So many within `breaker_window` open a circuit breaker. 0: none ever opens."""
    breaker_window: Duration = timedelta(minutes=5)
    breaker_open: Duration = timedelta(minutes=1)
    """How long nothing is tried behind an open one; then one is."""
    write_back: WriteBack = WriteBack.STATUS
    """What a run that ends writes into the file; `coord sync RUN` writes it all the same."""
    keep_runs: Duration = timedelta(days=30)
    """How long Redis keeps what it knows of a run that has ended."""
    export_runs: Text | None = None
    """Where runs are written before they are forgotten: a folder of the machine whose keeper leads. None: nowhere."""
    log_limit_bytes: Annotated[int, Field(ge=1024)] = 1024 * 1024
    """How much of an attempt's output Redis keeps, half for its head, half for its tail; the worker's machine keeps all of it."""
    output_limit_bytes: Annotated[int, Field(ge=256)] = 64 * 1024
    """How large the JSON that a todo hands to its dependents may be."""
    bundle_limit_bytes: Annotated[int, Field(ge=0, le=256 * 1024 * 1024)] = 8 * 1024 * 1024
    """What a commit may bring to Redis for other hosts; more is pushed to the repository's `url`. 0: nothing."""

    disk_min: Size = 1024**3
    """A worker with less room on a disk that it works on begins no todo, and says so. 0: it always does."""

    cache_todos: bool = True
    """Whether todos with a `cache` are given the result of an earlier one."""
    cache_todos_ttl: Duration = timedelta(days=7)
    """How long a result is good for, where the todo does not say."""

    flower_auth: Annotated[str | None, Field(pattern=r"^[^:,\s]+:[^,\s]+$", repr=False)] = None
    """`user:password` for Flower; none means a new password at each start. Flower separates users by commas."""

    mcp_token: Annotated[str | None, Field(pattern=r"^[!-~]{16,}$", repr=False)] = None
    """What clients of `coord mcp --http` must show; none means a new one at each start."""

    message_ttl: Duration = timedelta(minutes=5)
    """Of a message that names none: later it is not delivered."""
    inbox_limit: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """So many messages wait for a recipient that is away; then the oldest is trimmed, and the recipient is told."""
    inbox_keep: Duration = timedelta(hours=24)
    """So long a message waits at most."""

    cache_max_bytes: Annotated[int, Field(ge=64 * 1024)] = 100 * 1024 * 1024
    """Of the context cache in Redis; then something is evicted."""
    cache_ttl: Duration = timedelta(hours=1)
    """Of a value that is kept without a word about it."""
    cache_eviction: Annotated[Literal["lru", "lfu", "ttl"], BeforeValidator(lower_case)] = "lru"
    """What goes first: the least recently used, the least often used, or what expires first."""
    cache_value_bytes: Annotated[int, Field(ge=1024, le=256 * 1024 * 1024)] = 8 * 1024 * 1024
    """How large one value may be."""
    cache_folder: Text | None = None
    """Where values are also written, to be put back into a Redis that has lost them. None: nowhere."""
    context_limit_bytes: Annotated[int, Field(ge=0)] = 64 * 1024
    """How much of its context stands in a todo's COORD_CONTEXT; the rest it asks for with `coord context`."""

    gateway_window: Annotated[int, Field(ge=1, le=1000)] = 32
    """So many messages a client of `coord gateway` has in hand at most; its inbox is read no further."""
    gateway_send_timeout: Duration = timedelta(seconds=20)
    """A client that has not read what was sent to it for so long is let go."""
    gateway_ping: Duration = timedelta(seconds=20)
    """Between two pings to a client; one that does not answer within the same time is gone."""

    gateway_proxies: Networks = ()
    """Proxies whose X-Forwarded-For the gateway believes; of everybody else the peer's own address counts."""

    restricted: bool = False
    """Of a worker whose Redis user may touch nothing but its own repositories (`coord acl`): keepers do its steps."""

    connect_timeout: Duration = timedelta(seconds=1)
    """Until Redis greets; a command says within 2 s that it is not there."""
    appendfsync: Annotated[Literal["everysec", "always"], BeforeValidator(lower_case)] = "everysec"
    """Of the embedded server: `always` survives power loss, +0.2 ms a transition."""
    server_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Of the embedded server: listens on loopback too, with a generated password."""
    levels_margin: Annotated[float, Field(ge=0, le=1)] = 0.05
    """`auto` takes levels unless dataflow is faster by more than this part."""

    @property
    def worker_slots(self) -> int:
        """How many todos a worker of this machine carries out at once at most."""
        return self.jobs or usable_cpus()

    def slots_beside(self, limit: int | None) -> int | None:
        """How many todos of a run can be carried out at once: `limit`, and with the embedded server what its only worker takes."""
        return limit if self.redis_url else min(limit or self.worker_slots, self.worker_slots)


def usable_cpus() -> int:
    """How many processors this process may use: a container or `taskset` may leave it fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


FOLDERS = ("cache_folder", "export_runs")
"""Settings that name a folder: relative to the file's."""


def read_settings(
    file: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """Settings from the file's section, the environment and the command line; raises UsageError with the name that is off.

    `folder` is the file's; without one, relative folders begin where the process works.
    """
    environ = os.environ if environ is None else environ
    # What is set to nothing, as compose files do with what is not given, counts as not set.
    from_env = {name: value for name in Settings.model_fields if (value := environ.get(ENV_PREFIX + name.upper()))}
    given = {**(file or {}), **from_env, **{k: v for k, v in (flags or {}).items() if v is not None}}
    if "host" in (file or {}):
        raise UsageError("setting host: it names one machine, and the file is everybody's", "set COORD_HOST there")
    here = Path.cwd() if folder is None else folder.absolute()
    places = {
        name: str(here / Path(where).expanduser())
        for name in FOLDERS
        if isinstance(where := given.get(name), str) and where
    }
    try:
        return Settings(**{**given, **places})
    except ValidationError as error:
        raise _refusal(error, given, from_env) from error


def _refusal(error: ValidationError, given: Mapping[str, Any], from_env: Collection[str]) -> UsageError:
    details = error.errors(include_url=False)
    name = str(details[0]["loc"][0])
    source = ENV_PREFIX + name.upper() if name in from_env else f"setting {name}"
    if name not in Settings.model_fields:
        return UsageError(f"{source}: there is no such setting", f"known: {', '.join(Settings.model_fields)}")
    words = wrong_value([detail for detail in details if detail["loc"][0] == name])
    got = "" if _secret(name) or not given[name] else f", got {given[name]!r}"
    default = Settings.model_fields[name].default
    shown = f"{default.total_seconds():g}s" if isinstance(default, timedelta) else default
    otherwise = "leave it out" if default is None else f"leave it at its default: {shown}"
    return UsageError(f"{source} {words}{got}", f"correct it, or {otherwise}")


def _secret(name: str) -> bool:
    return not Settings.model_fields[name].repr


def ecosystem_path_from_environment(environ: Mapping[str, str] | None = None) -> str | None:
    return (os.environ if environ is None else environ).get(ENV_PREFIX + "ECOSYSTEM")


def debug_from_environment(environ: Mapping[str, str] | None = None) -> bool:
    """Whether tracebacks are wanted."""
    return (os.environ if environ is None else environ).get(ENV_PREFIX + "DEBUG", "") not in ("", "0")


def failpoints_from_environment(environ: Mapping[str, str] | None = None) -> str:
    """Where this process is to fail, for tests: what it says is in backend/failpoints.py. Empty: nowhere."""
    return (os.environ if environ is None else environ).get(ENV_PREFIX + "FAILPOINTS", "")


def todo_connection_from_environment(environ: Mapping[str, str] | None = None) -> Path | None:
    """The file in which a worker tells a todo's command where its context is; None outside of a todo."""
    named = (os.environ if environ is None else environ).get(ENV_PREFIX + "CONNECTION")
    return Path(named) if named else None


def secret_in_environment(environ: Mapping[str, str] | None = None) -> bool:
    """Whether a setting stands there that nobody else should know."""
    environ = os.environ if environ is None else environ
    return any(environ.get(ENV_PREFIX + name) for name in ("REDIS_URL", "MCP_TOKEN", "FLOWER_AUTH"))


def in_todo(environ: Mapping[str, str] | None = None) -> bool:
    """Whether this process belongs to a todo of a run: its command, or what a worker runs for it."""
    environ = os.environ if environ is None else environ
    return any(environ.get(ENV_PREFIX + name) for name in ("TODO_ID", "CONNECTION"))


def refuse_in_todo(what: str) -> None:
    """Raises NotAllowed in a todo: it has a context, and neither a Redis nor workers of its own."""
    if in_todo():
        raise NotAllowed(
            f"{what} is not for the command of a todo: it reaches its shared context, and nothing else of coord",
            "within a todo there is `coord context get|set|list|delete`; hand values on in the file COORD_OUTPUT",
        )


def cache_folder_from_environment(environ: Mapping[str, str] | None = None) -> Path | None:
    """The user's own folder for what can be made again; None where the environment names no home."""
    environ = os.environ if environ is None else environ
    named, home = environ.get("XDG_CACHE_HOME", ""), environ.get("HOME", "")
    if named.startswith("/"):  # the standard ignores what is relative
        return Path(named, "coord")
    return Path(home, ".cache", "coord") if home.startswith("/") else None


def colour_from_environment(environ: Mapping[str, str] | None = None) -> bool | None:
    """Whether colours are wanted whatever the output is: `NO_COLOR` and `FORCE_COLOR`, as other programs understand them.

    None: where the output is a terminal.
    """
    environ = os.environ if environ is None else environ
    if environ.get("NO_COLOR") or environ.get("TERM") == "dumb":
        return False
    return True if environ.get("FORCE_COLOR") else None
