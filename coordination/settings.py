"""All settings of coord with their defaults. `environment.py` reads the variables that are no settings.

A setting's value is the first found of: the command line, `COORD_<NAME>`, `settings:` in ecosystem.yaml, the
default here. Durations are written as in the file: `90s`, `10m`, or a number of seconds.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError

from coordination.agent_programs import LOGIN_VARIABLES
from coordination.environment import ENV_PREFIX
from coordination.errors import UsageError
from coordination.files import expanded
from coordination.frozen import FrozenModel
from coordination.models import (
    OWN_BRANCHES,
    Agent,
    AgentKind,
    AgentName,
    Backoff,
    BranchPrefix,
    Command,
    DayBudget,
    Duration,
    Jitter,
    Signatures,
    Size,
    Text,
    WriteBack,
    lower_case,
)
from coordination.setting_types import (
    SYNONYMS,
    Networks,
    check_commit_message,
    json_text,
    reject_repeated,
    split_words,
    word_off,
)
from coordination.text import wrong_value

COMMAND_AGENT = "agent_command"
"""Name of the agent that the setting of this name declares."""


class Settings(FrozenModel):
    model_config = ConfigDict(extra="forbid")

    redis_url: Annotated[Text | None, Field(repr=False)] = None
    """Address of Redis: redis://, rediss:// or unix://. It may name a database (`?db=1`). For TLS it takes
    `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile` (PEM files), `ssl_cert_reqs` and `ssl_check_hostname` as
    query parameters. None: coord starts its embedded server.
    """
    namespace: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=40)] = "coord"
    """Prefix of every Redis key and queue; two ecosystems with different namespaces can share one Redis."""
    agent_command: Command | None = None
    """Command that executes agent todos which name no agent, where `agent` names none: a program that reads
    the prompt on its standard input, and whose exit code tells how it ended.
    """
    agent: AgentName | None = None
    """Agent, by its name in `agents`, that executes todos which name none. None: `agent_command`, else the
    only one of `agents`.
    """
    agents: Annotated[tuple[Agent, ...], BeforeValidator(json_text), AfterValidator(reject_repeated)] = ()
    """Agents that todos may name: each with `name`, `kind` (claude, codex, gemini, opencode, copilot,
    command), `model`, `args`, `command`, `prices` and `parallel`. COORD_AGENTS has them as JSON.
    """
    agent_budget: Annotated[DayBudget, BeforeValidator(json_text)] = DayBudget()
    """Limits of what all agents may use on a day (UTC): `usd_per_day`, `tokens_per_day`. Over one, todos of
    agents wait for the next day, or for an approval. COORD_AGENT_BUDGET has them as JSON.
    """
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=100)] | None = None
    """Name of this machine, for machines whose host name changes (containers) or is not unique. Read only
    from the environment, because the file is shared by all machines.
    """

    lease_ttl: Duration = timedelta(seconds=15)
    """Time without a heartbeat after which a todo's lease expires and the todo is executed again."""
    heartbeat: Duration = timedelta(seconds=5)
    """Time between two heartbeats with which a worker renews a lease."""
    health_interval: Duration = timedelta(seconds=30)
    """Longest time between two looks at the health of a repository, a service or a disk."""
    lost_leases: Annotated[int, Field(ge=1)] = 3
    """Number of times that a todo may lose its worker before it fails."""
    reaper: bool = True
    """Recover expired leases and lost messages, and clean up after crashed processes."""
    jobs: Annotated[int, Field(ge=1)] | None = None
    """Number of todos that a worker executes at once, over all its repositories. `coord up --jobs` and `coord
    worker --jobs` override it; `slots` of a repository limits the repository further. None: the number of
    CPUs that it may use.
    """
    todo_timeout: Duration = timedelta(hours=1)
    """Time limit of an attempt of a todo that declares no `timeout`."""
    kill_grace: Duration = timedelta(seconds=5)
    """Time between TERM and KILL when a command is ended."""
    commit_message: Annotated[str, Field(min_length=1), AfterValidator(check_commit_message)] = (
        "{todo}: {task}"
    )
    """Template of a todo's commit message, without the trailers; placeholders: {task}, {todo}, {plan} and
    {run}.
    """
    commit_hooks: Literal["run", "skip"] = "run"
    """Run or skip git hooks when a todo's changes are committed."""
    retry_attempts: Annotated[int, Field(ge=1, le=100)] = 1
    """Number of attempts for a todo if neither it nor its plan declares `retry`; lost workers count towards
    `lost_leases` instead.
    """
    retry_strategy: Backoff = Backoff.EXPONENTIAL
    """Growth of the delay from one attempt to the next: `immediate`, `fixed`, `linear`, `exponential` or
    `fibonacci`.
    """
    retry_delay: Duration = timedelta(seconds=1)
    """Delay before the second attempt."""
    retry_factor: Annotated[float, Field(ge=1)] = 2.0
    """Factor by which the `exponential` strategy multiplies the delay."""
    retry_max_delay: Duration = timedelta(seconds=30)
    """Upper bound of the delay between two attempts."""
    retry_jitter: Jitter = Jitter.FULL
    """Random part of the delay: `full` draws each delay evenly from 0 to the computed delay, `none` uses the
    computed delay.
    """
    breaker_failures: Annotated[int, Field(ge=0, le=1000)] = 5
    """Number of failures within `breaker_window` that opens a circuit breaker. 0: circuit breakers never
    open.
    """
    breaker_window: Duration = timedelta(minutes=5)
    """Time within which failures are counted towards `breaker_failures`."""
    breaker_open: Duration = timedelta(minutes=1)
    """Time that a circuit breaker stays open before it lets one probe through."""
    land_patience: Duration = timedelta(hours=1)
    """Time for which a landing waits while a remote does not answer, a base branch keeps moving or a checkout
    has local changes. After it the repository counts as refused: those that have landed are reverted.
    """
    forge_budget: Annotated[int, Field(ge=10, le=1_000_000)] = 4000
    """Calls an hour to the API of a forge, over all processes of the namespace. Half of it sets how often
    pull requests are looked at. GitHub allows a person 5,000.
    """
    branch_prefix: BranchPrefix = OWN_BRANCHES
    """Beginning of the names of coord's branches, in checkouts and at forges. It ends in `/`. A change set,
    an open request and the retries of a run keep their branches. No base branch, and no branch of people, may
    begin with it.
    """
    delete_merged_branches: bool = True
    """Whether a landing deletes the branch of a pull request at the forge once it has merged it, unless
    somebody has pushed to it since. The branch of an adopted request stays.
    """
    write_back: WriteBack = WriteBack.STATUS
    """Data that is written into the file when a run ends: `status` writes statuses, hours and dates, `none`
    writes nothing. `coord run sync RUN` writes them regardless of this setting.
    """
    progress_interval: Duration = timedelta(seconds=30)
    """Interval at which a sweep prints its running todos where its output is no terminal."""
    progress_command: Command | None = None
    """Program that reads the progress of a run as lines of JSON on its standard input: started once for each
    run, by the worker that leads maintenance. None: no program.
    """
    notify_command: Command | None = None
    """Program that notifies people: a run failed, waits for a person, could not be undone or is stuck. It
    reads JSON on its standard input; the worker that leads maintenance calls it. None: no notification.
    """
    keep_runs: Duration = timedelta(days=30)
    """Time that Redis keeps the data of an ended run, and a host the sessions of agents of a plan that none
    of them uses.
    """
    export_runs: Text | None = None
    """Folder on the maintenance leader's machine to which runs are exported as `RUN.json.gz` before they are
    deleted. It must exist; a relative path starts at the file's folder. A run that cannot be exported is not
    deleted. None: no export.
    """
    log_limit_bytes: Annotated[int, Field(ge=1024)] = 1024 * 1024
    """Bytes of an attempt's output that Redis keeps, half from the start and half from the end; the worker's
    machine keeps up to 1 GiB of it.
    """
    output_limit_bytes: Annotated[int, Field(ge=256)] = 64 * 1024
    """Bytes of JSON output that a todo may pass to its dependents."""
    bundle_limit_bytes: Annotated[int, Field(ge=0, le=256 * 1024 * 1024)] = 8 * 1024 * 1024
    """Bytes of commits that a todo may store in Redis for other hosts; larger bundles are pushed to the
    repository's `url`, which they need. 0: never use Redis.
    """

    disk_min: Size = 1024**3
    """Free space that every disk of a worker must have, as a size such as `512MiB` or a number of bytes. With
    less the worker starts no todo and reports it. 0: no check.
    """

    cache_todos: bool = True
    """Reuse earlier results for todos that declare `cache`."""
    cache_todos_ttl: Duration = timedelta(days=7)
    """Time for which a cached result is valid if the todo declares no `ttl`."""

    flower_auth: Annotated[str | None, Field(pattern=r"^[^:,\s]+:[^,\s]+$", repr=False)] = None
    """Login for Flower, `user:password`. None: a new password at each start. Flower separates several logins
    by commas.
    """

    mcp_token: Annotated[str | None, Field(pattern=r"^[!-~]{16,}$", repr=False)] = None
    """Token of at least 16 characters that clients of `coord mcp --http` must send. None: a new token at each
    start.
    """

    sandbox: Annotated[
        Literal["auto", "off", "bubblewrap", "require"],
        BeforeValidator(word_off),
        BeforeValidator(lower_case),
    ] = "auto"
    """Sandbox of todos without a `sandbox` of their own or of their repository: `auto` puts agent todos
    into bubblewrap where it works, `bubblewrap` all todos, `off` none. `require` puts every todo into it,
    also one that says `off`.
    """
    sandbox_memory: Size = 0
    """Memory that a todo in a sandbox may use unless it declares a limit, such as `4GiB`. 0: no limit."""
    sandbox_processes: Annotated[int, Field(ge=0)] = 1000
    """Number of processes that a todo in a sandbox may have at once unless it declares a limit. 0: no limit.
    """
    sandbox_readable: Annotated[tuple[Text, ...], BeforeValidator(split_words)] = ()
    """Files and folders that todos in a sandbox may read, such as a toolchain in the home folder. Read only
    from the environment, because a file that came with a folder must not open a sandbox.
    """
    sandbox_writable: Annotated[tuple[Text, ...], BeforeValidator(split_words)] = ()
    """Files and folders that todos in a sandbox may read and write, such as the folder of an agent's login.
    Read only from the environment, because a file that came with a folder must not open a sandbox.
    """
    sandbox_variables: Annotated[tuple[Text, ...], BeforeValidator(split_words)] = LOGIN_VARIABLES
    """Variables of the worker's environment that an agent in a sandbox gets though their names look secret.
    Read only from the environment, because a file that came with a folder must not open a sandbox.
    """

    message_ttl: Duration = timedelta(minutes=5)
    """Lifetime of a message that sets none; an expired message is not delivered."""
    inbox_limit: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Number of messages that wait for an absent recipient; beyond it the oldest is trimmed and the recipient
    is notified.
    """
    inbox_keep: Duration = timedelta(hours=24)
    """Longest time that a message waits in an inbox."""

    cache_max_bytes: Annotated[int, Field(ge=64 * 1024)] = 100 * 1024 * 1024
    """Bytes that the context cache may hold in Redis before entries are evicted."""
    cache_ttl: Duration = timedelta(hours=1)
    """Lifetime of a cached value that sets none."""
    cache_eviction: Annotated[Literal["lru", "lfu", "ttl"], BeforeValidator(lower_case)] = "lru"
    """Eviction order: least recently used, least frequently used, or earliest expiry first."""
    cache_value_bytes: Annotated[int, Field(ge=1024, le=256 * 1024 * 1024)] = 8 * 1024 * 1024
    """Bytes that one cached value may have."""
    cache_folder: Text | None = None
    """Folder that keeps copies of cached values, except those of run contexts, to restore them after Redis
    has lost its data. A relative path starts at the file's folder. None: no copies.
    """
    context_limit_bytes: Annotated[int, Field(ge=0)] = 64 * 1024
    """Bytes of context that are passed to a todo in COORD_CONTEXT; it reads the rest with `coord context`."""

    tls_certificate: Text | None = None
    """PEM file with the certificate of `coord gateway`, `coord mcp --http` and `coord metrics`, followed by
    those that lead to its authority. A relative path starts at the file's folder. None: they speak plain
    HTTP, on this machine only.
    """
    tls_key: Text | None = None
    """PEM file with the certificate's key, readable by its owner only. None: it is in `tls_certificate`."""
    tls_proxy: bool = False
    """A proxy in front of these servers encrypts, so that they may listen beyond this machine without TLS."""

    gateway_window: Annotated[int, Field(ge=1, le=1000)] = 32
    """Number of unacknowledged messages per client of `coord gateway`; the gateway reads no more of the inbox
    until some are acknowledged.
    """
    gateway_send_timeout: Duration = timedelta(seconds=20)
    """Time that a client may take to read a sent frame before the gateway disconnects it."""
    gateway_ping: Duration = timedelta(seconds=20)
    """Time between two pings to a client, and time to answer one before the gateway disconnects it."""

    gateway_proxies: Networks = ()
    """Proxies whose X-Forwarded-For header the gateway trusts; for other peers it uses the peer's address."""

    restricted: bool = False
    """Run as a worker whose Redis user may access only its own repositories (`coord acl`); processes
    of the role `keeper` execute its steps.
    """

    signatures: Signatures | None = None
    """Treatment of missing or wrong signatures by workers of this machine: `off` checks nothing, `warn`
    reports them and executes the todo, `require` refuses the todo. Read only from the
    environment, because the file is not signed. None: `off` where Redis is a unix socket of the same user,
    else `warn`.
    """
    order_ttl: Duration = timedelta(days=30)
    """Time for which a signed order or approval is valid; workers start nothing of it afterwards."""

    history_host: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=100)] | None = None
    """Name of the machine whose worker keeps the history of all machines, beside its ecosystem file. None:
    each machine keeps what `coord history search` reads there.
    """
    history_synonyms: Annotated[tuple[Text, ...], BeforeValidator(split_words)] = SYNONYMS
    """Groups of words that mean the same in `coord history search --query`, with spaces between the words, as
    `[bug defect fault, login auth]`. The groups given here replace the default ones.
    """

    embed_command: Command | None = None
    """Command that gives `coord history search --query` a search by meaning. It reads texts as JSON strings,
    one on each line, and answers each with a JSON array of numbers. Read only from the environment, because a
    search must not execute a command that came with a folder.
    """

    connect_timeout: Duration = timedelta(seconds=1)
    """Time that a connection to Redis may take; a command reports within 2 s that Redis is unreachable."""
    appendfsync: Annotated[Literal["everysec", "always"], BeforeValidator(lower_case)] = "everysec"
    """Durability of the embedded server: `everysec`, or `always`, which survives a power loss and adds 0.2 ms
    per transition.
    """
    server_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Loopback port on which the embedded server also listens, with a generated password. None: unix socket
    only.
    """
    levels_margin: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Share by which dataflow must be faster before `auto` prefers it to levels."""

    @property
    def presets(self) -> Mapping[str, Agent]:
        """Return the agents by name, with that of `agent_command`."""
        found = {agent.name: agent for agent in self.agents}
        if self.agent_command is not None:
            kind, command = AgentKind.COMMAND, self.agent_command
            found.setdefault(COMMAND_AGENT, Agent(name=COMMAND_AGENT, kind=kind, command=command))
        return found

    @property
    def default_agent(self) -> str:
        """Return the agent of todos that name none; empty if there is none."""
        names = (self.agent, COMMAND_AGENT if self.agent_command is not None else None)
        only = self.agents[0].name if len(self.agents) == 1 else ""
        return next(filter(None, names), only)

    @property
    def this_host(self) -> str:
        """Name of this machine."""
        return self.host or socket.gethostname()

    @property
    def alone_keeps_history(self) -> bool:
        """Return whether no other machine keeps the history of this ecosystem: it is the `history_host`, or
        the only machine that reaches Redis.
        """
        if self.history_host is not None:
            return self.history_host == self.this_host
        return self.redis_url is None or self.redis_url.startswith("unix:")

    @property
    def worker_slots(self) -> int:
        """Number of todos that a worker of this machine executes at once."""
        return self.jobs or usable_cpus()

    def slots_beside(self, limit: int | None) -> int | None:
        """Return how many todos of a run can execute at once: `limit`, and with the embedded server at most
        the slots of its only worker.
        """
        return limit if self.redis_url else min(limit or self.worker_slots, self.worker_slots)


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use, which a container or `taskset` may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


OF_THE_ENVIRONMENT = {
    "host": "it names one machine, and all machines share the file",
    "embed_command": "a search must not execute a command of the file",
    "sandbox_readable": "a file that came with a folder must not open a sandbox",
    "sandbox_writable": "a file that came with a folder must not open a sandbox",
    "sandbox_variables": "a file that came with a folder must not open a sandbox",
    "signatures": "each machine decides which signatures its workers demand, and nobody signs the file",
}
"""Settings that the file must not have, and why."""
PATHS = ("cache_folder", "export_runs", "tls_certificate", "tls_key")
"""Settings that name a folder or a file; relative paths start at the file's folder."""


def read_settings(
    file: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """Merge the settings of the file, the environment and the command line.

    `folder` is the file's folder; without it, relative folders start at the working directory. Raises
    UsageError, which names the invalid setting.
    """
    environ = os.environ if environ is None else environ
    # An empty variable counts as unset: compose files pass optional variables that way.
    from_env = {
        name: value for name in Settings.model_fields if (value := environ.get(ENV_PREFIX + name.upper()))
    }
    given = {**(file or {}), **from_env, **{k: v for k, v in (flags or {}).items() if v is not None}}
    for name, why in OF_THE_ENVIRONMENT.items():
        if name in (file or {}):
            raise UsageError(f"setting {name}: {why}", f"set {ENV_PREFIX}{name.upper()} there")
    here = Path.cwd() if folder is None else folder.absolute()
    places = {
        name: str(here / expanded(where))
        for name in PATHS
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
