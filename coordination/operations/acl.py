"""Permissions of Redis users by role, as rules of an ACL file. Pure.

They are tested on a real server in tests/acceptance/test_access.py.

The syntax is that of Redis 7 and Valkey: `%R~` is a key that may only be read, and parentheses enclose a
separate set of permissions. These are needed for channels, whose patterns do not distinguish publishing from
subscribing.

A user that may read inboxes is notified of messages; a restricted worker learns only that one has arrived.

A restricted worker may consume the queues of its repositories and write their bundles. It may read a field of
another repository's bundle if it knows the field's name, which is a commit; it can list neither fields nor
keys. For everything else it asks a keeper, on its own channel; see runs/remote_steps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from enum import StrEnum

from coordination.backend.keys import Keys
from coordination.runs.cleanup_jobs import WORKERS

HARMLESS = (
    "+auth +hello +ping +select +quit +reset +client|setinfo +client|setname +client|id +info +time "
    "+acl|whoami +multi +exec +discard +watch +unwatch"
)
STEPS = "+fcall"
"""Rule to call coord's steps, which are Redis Functions."""
LOAD_STEPS = "+function|load +function|list +function|delete"
"""Rules to load the steps; a loaded function is replaced for all users of the server."""
KOMBU_SCRIPTS = "+evalsha +script|load"
"""Rules for kombu's scripts about queues that expire, of remote control and events. A restricted worker has
none: an endless script stops the server for all users.
"""
KEYS = "+copy +del +unlink +exists +expire +pexpire +persist +rename +ttl +pttl +type"
DATA = f"+@read +@write -@keyspace -@scripting -@dangerous {KEYS} {STEPS}"
"""All commands except those that inspect or manage the whole server; without `@keyspace`, a user cannot list
keys of others.
"""
CONSUMING = (
    "+brpop +rpop +lpush +rpush +ltrim +llen +exists +hset +hget +hmget +hexists +hstrlen +hdel "
    "+zadd +zrem +zrange +set +get +del +expire +pexpire +blpop"
)
LISTENING = "+subscribe +unsubscribe +psubscribe +punsubscribe"


class Role(StrEnum):
    SUBMITTER = "submitter"
    """Submits, inspects and controls runs. Its plans determine the commands that workers execute."""
    WORKER = "worker"
    """Serves given repositories, with COORD_RESTRICTED."""
    KEEPER = "keeper"
    """Used by `coord keeper`, and by workers that are trusted with all repositories."""
    FLOWER = "flower"
    """Sees workers and tasks, and cannot send commands."""
    GATEWAY = "gateway"
    """Used by `coord gateway`: messages, but no runs; it reads hashes of tokens and creates none."""


class Rules:
    """ACL rules for a namespace. `db` is the database number of the address, with which Celery's channels
    start.
    """

    def __init__(self, keys: Keys, db: int = 0) -> None:
        self._keys = keys
        self._events = f"&/{db}.celeryev/*"
        self._mail = keys.messages.mail("*")
        self._control = f"&/{db}.celery.pidbox"

    def of(self, role: Role, repos: Sequence[str] = ()) -> str:
        """Return the rules that follow the user's name and password."""
        rules = {
            Role.SUBMITTER: self._submitter,
            Role.KEEPER: self._keeper,
            Role.FLOWER: self._flower,
            Role.GATEWAY: self._gateway,
        }
        return " ".join(("-@all", *(self._worker(repos) if role is Role.WORKER else rules[role]()), HARMLESS))

    def _submitter(self) -> Iterator[str]:
        yield from (DATA, *self._everything, f"+publish {LISTENING} &{self._mail}")
        yield f"&{self._keys.gateway.news} &{self._keys.messages.live('*')}"

    def _keeper(self) -> Iterator[str]:
        """Yield the rules of a keeper. It listens to Celery's remote control, so that Flower can query
        workers, but sends nothing there.
        """
        yield from (DATA, LOAD_STEPS, KOMBU_SCRIPTS, *self._everything)
        yield (
            "~_kombu.binding*.celery.pidbox ~_kombu.binding_deadlines ~*@*.celery.pidbox "
            "~*.reply.celery.pidbox"
        )
        yield f"{LISTENING} &{self._mail} &{self._keys.all_requests} {self._control}"
        yield f"(-@all +publish &{self._mail} {self._events})"

    def _worker(self, repos: Sequence[str]) -> Iterator[str]:
        own, runs = self._keys.restricted(repos), self._keys.run("*")
        yield CONSUMING
        for repo in repos:
            for queue in (self._keys.queue(repo), self._keys.queue(repo, "*")):
                yield f"~{queue}"
            yield f"~{runs.bundle(repo)}"
        yield f"%R~{runs.bundle('*')} %R~{self._keys.server} ~{own.prefix}:*"
        wakes = f"&{self._keys.messages.mail('worker:*')} &{self._keys.messages.mail(f'topic:{WORKERS}')}"
        yield f"{LISTENING} {wakes} (-@all +publish &{own.requests} {self._events})"

    def _flower(self) -> Iterator[str]:
        yield f"{KOMBU_SCRIPTS} +llen +exists +type +smembers +sadd +srem +zadd +zrange +zrangebyscore"
        yield "+zrem +del"
        yield f"%R~{self._keys.queue('*')} %R~{self._keys.control_queue}"
        yield f"~_kombu.binding*.celeryev ~_kombu.binding_deadlines ~celeryev.* {LISTENING} {self._events}"

    def _gateway(self) -> Iterator[str]:
        yield DATA
        yield from (f"~{pattern}" for pattern in self._keys.messages.patterns)
        yield f"%R~{self._keys.events.lasting} %R~{self._keys.gateway.tokens}"
        yield f"{LISTENING} +publish &{self._mail} &{self._keys.gateway.news}"
        yield f"&{self._keys.messages.live('*')}"

    @property
    def _everything(self) -> Iterator[str]:
        yield f"~{self._keys.namespace}:* ~{self._keys.namespace}.*"


def line(name: str, password: str, rules: str) -> str:
    """Return a user's line of an ACL file, with the hash of the password."""
    return f"user {name} reset on #{hashlib.sha256(password.encode()).hexdigest()} {rules}"
