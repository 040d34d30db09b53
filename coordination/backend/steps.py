"""Declares every Lua step once: its name, keys, arguments, reply and flags.

A step is one atomic change in Redis, `lua/<package>/<name>.lua`. The declaration is used four times:
`library.py` registers the function with these counts and flags, `Step.arguments` puts arguments given by name
into order, `Step.check` refuses a call with wrong arguments before it is sent, and `Step.read` refuses a
reply of the wrong shape.

Arguments are names with types: `todo` is text (also bytes or a number), `fence:int` an integer. Names in
brackets, `[member due]`, are a group that may be repeated any number of times at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from coordination.backend.keys import Keys
from coordination.errors import CoordinationError

ANY_NUMBER = 100_000
"""Limit of keys or arguments of a step with groups. Redis accepts more, Lua's `unpack` does not."""
RUN_KEYS = len(Keys("").step(""))
"""Number of keys of each step of a run: `Keys.step`."""

Word = str | int | float | bytes


class Flag(StrEnum):
    """Flags of Redis Functions."""

    NO_WRITES = "no-writes"
    """The step only reads. Redis also executes it while it refuses writes, for example with a full disk."""
    ALLOW_OOM = "allow-oom"
    """Redis executes the step even when it is out of memory: the step frees memory or records a result."""


class Reply(StrEnum):
    """Shapes of replies."""

    ANY = "any"
    NUMBER = "number"
    TEXT = "text"
    LIST = "list"
    RUN = "run"
    """`[word, deliveries, woken todos, status of the run, …]`"""


@dataclass(frozen=True, kw_only=True)
class Step:
    name: str
    """`package/file`."""
    args: str = ""
    reply: Reply = Reply.ANY
    keys: tuple[int, int] = (1, 1)
    """Minimum and maximum number of keys."""
    flags: tuple[Flag, ...] = ()

    @property
    def package(self) -> str:
        return self.name.partition("/")[0]

    @cached_property
    def counts(self) -> tuple[int, int, int, int]:
        """Minimum and maximum number of keys, then of arguments."""
        fixed, group = len(self._fixed), len(self._group)
        return (*self.keys, fixed, ANY_NUMBER if group else fixed)

    @cached_property
    def _fixed(self) -> tuple[str, ...]:
        return tuple(self.args.partition("[")[0].split())

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(name.partition(":")[0] for name in self._fixed)

    @cached_property
    def _group(self) -> tuple[str, ...]:
        return tuple(self.args.partition("[")[2].rstrip("]").split())

    @cached_property
    def _integers(self) -> tuple[int, ...]:
        return tuple(i for i, name in enumerate(self._fixed) if name.endswith(":int"))

    def arguments(self, named: Mapping[str, Word], group: Sequence[Word] = ()) -> list[Word]:
        """Return arguments given by name in the declared order, followed by those of the group.

        Raises StepMisuse if a name is missing or not declared.
        """
        if len(named) != len(self._names) or not all(map(named.__contains__, self._names)):
            wrong = sorted(named.keys() ^ set(self._names))
            raise StepMisuse(f"step {self.name} takes {self.args!r}: missing or unknown: {', '.join(wrong)}")
        return [*map(named.__getitem__, self._names), *group]

    def check(self, keys: Sequence[str], args: Sequence[Word]) -> None:
        """Raise StepMisuse if keys or arguments do not match the declaration."""
        fixed, group = len(self._fixed), len(self._group)
        further = len(args) - fixed
        if (
            not self.keys[0] <= len(keys) <= self.keys[1]
            or further < 0
            or (further % group if group else further)
        ):
            raise StepMisuse(
                f"step {self.name} was called with {len(keys)} keys and {len(args)} arguments ({self.args})"
            )
        for i in self._integers:
            if type(args[i]) is not int:
                raise StepMisuse(f"step {self.name}: {self._fixed[i]} is {args[i]!r}")

    def read(self, answer: Any) -> Any:
        """Return the reply unchanged. Raises StepMisuse if it has another shape than declared."""
        if not _FITS[self.reply](answer):
            raise StepMisuse(f"step {self.name} returned {answer!r:.200} instead of {self.reply}")
        return answer


class StepMisuse(CoordinationError):
    """A fault of coord: the call or the reply of a step does not match its declaration."""

    def __init__(self, fact: str) -> None:
        super().__init__(f"coord has a fault: {fact}", "report it together with the command")


_FITS: Mapping[Reply, Any] = {
    Reply.ANY: lambda answer: True,
    Reply.NUMBER: lambda answer: isinstance(answer, int),
    Reply.TEXT: lambda answer: isinstance(answer, str | bytes),
    Reply.LIST: lambda answer: isinstance(answer, list),
    Reply.RUN: lambda answer: isinstance(answer, list) and len(answer) >= 4,
}


def _of_a_run(name: str, args: str = "", *flags: Flag, further_keys: bool = False) -> Step:
    keys = (RUN_KEYS, ANY_NUMBER if further_keys else RUN_KEYS)
    return Step(name=f"run/{name}", args=f"run {args}".strip(), reply=Reply.RUN, keys=keys, flags=flags)


OOM, READS = Flag.ALLOW_OOM, Flag.NO_WRITES
POLICY = "failures:int window_ms:int open_ms:int"
LETTER = "top body terms"

_STEPS = (
    _of_a_run("seal", "[repo branch tip]", further_keys=True),
    _of_a_run("adopt", "status started_at_ms fence:int actor [todo due_ms]", further_keys=True),
    _of_a_run("claim", "todo attempt:int worker host request lease_ms:int unfit short"),
    _of_a_run(
        "settle",
        "todo fence:int outcome exit_code error output tip began blame cached signed figures check",
        OOM,
    ),
    _of_a_run("retry", "todo fence:int counted delay_ms:int exit_code error output blame", OOM),
    _of_a_run("park", "todo fence:int waits_for delay_ms:int", OOM),
    _of_a_run("hold_up", "todo fence:int why delay_ms:int blame limit:int reason", OOM),
    _of_a_run("checkpoint", "todo fence:int output"),
    _of_a_run("note_change", "todo fence:int change_set repo landed tip base signed"),
    _of_a_run("lose", "todo cap:int at_ms dead_worker", OOM),
    _of_a_run("fire", "todo"),
    _of_a_run("advance", "level:int source"),
    _of_a_run("resend", "age_ms:int limit:int"),
    _of_a_run("strand", "[repo host]"),
    _of_a_run("remainder", "piece"),
    _of_a_run("cancel", "actor", OOM),
    _of_a_run("pause", "actor", OOM),
    _of_a_run("resume", "actor"),
    _of_a_run("complete", "todo actor"),
    _of_a_run("approve", "todo actor comment"),
    _of_a_run("reject", "todo actor comment"),
    _of_a_run("rollback", "actor why"),
    _of_a_run("restore", "actor checkpoint"),
    _of_a_run("accept", "todo actor reason"),
    _of_a_run("stuck", "", READS),
    _of_a_run("report_stuck", "why where"),
    Step(name="lease/renew", keys=(3, 3), args="lease_ms:int [member fence]", reply=Reply.LIST, flags=(OOM,)),
    Step(
        name="lease/clock_step", keys=(4, 4), reply=Reply.NUMBER, flags=(OOM,),
        args="by_ms:int earliest_ms:int latest_ms:int lease_ms:int [member due_ms moved_ms]",
    ),
    Step(
        name="lock/acquire", reply=Reply.TEXT,
        args="request wants ttl_ms:int priority:int place_ms:int rank party [field value]",
    ),
    Step(name="lock/release", args="request party", reply=Reply.NUMBER, flags=(OOM,)),
    Step(name="lock/renew", args="request", reply=Reply.NUMBER, flags=(OOM,)),
    Step(name="lock/give_back", args="[request]", flags=(OOM,)),
    Step(name="lock/declare", args="[name capacity]"),
    Step(name="lock/use", args="[name]", reply=Reply.LIST),
    Step(name="lock/list", args="[name]", reply=Reply.TEXT),
    Step(name="lock/census", reply=Reply.LIST),
    Step(name="lock/holders", args="wants"),
    Step(name="lock/graph", args="request limit:int"),
    Step(name="lock/victim", args="request verdict [waiter name other]", reply=Reply.NUMBER, flags=(OOM,)),
    Step(name="lock/guard", args="lock"),
    Step(name="lock/write", args="lock fence [value]"),
    Step(name="lock/break", args="name actor [request]", reply=Reply.NUMBER, flags=(OOM,)),
    Step(name="lock/sweep", args="[name]", reply=Reply.LIST, flags=(OOM,)),
    Step(name="lock/sweep_owners", args="[party]", reply=Reply.NUMBER, flags=(OOM,)),
    Step(name="breaker/allow", args="name who by ttl_ms:int", reply=Reply.LIST),
    Step(name="breaker/record", args=f"name who outcome why {POLICY}", reply=Reply.TEXT, flags=(OOM,)),
    Step(name="breaker/reset", args="name actor"),
    Step(name="breaker/list", reply=Reply.TEXT, flags=(READS,)),
    Step(name="message/send", args=f"recipient {LETTER}", reply=Reply.NUMBER),
    Step(name="message/broadcast", args=f"topic {LETTER} published:int", reply=Reply.NUMBER),
    Step(name="message/register", args="recipient", reply=Reply.TEXT),
    Step(name="message/subscribe", args="recipient topic on:int"),
    Step(name="message/forget", args="recipient unheard_ms:int", reply=Reply.NUMBER, flags=(OOM,)),
    Step(name="message/resend", args="dead_letter ttl_ms:int limit:int keep_ms:int"),
    Step(
        name="inbox/take", reply=Reply.LIST, flags=(OOM,),
        args="recipient reader place limit idle_ms deliveries begun epoch offset trimmed done:int [ticket]",
    ),
    Step(name="inbox/ack", args="recipient reader begun [ticket delivery]", reply=Reply.LIST, flags=(OOM,)),
    Step(name="inbox/nack", args="recipient reader why wait_ms deliveries ticket delivery", flags=(OOM,)),
    Step(name="inbox/extend", args="recipient reader place idle_ms [ticket delivery]", flags=(OOM,)),
    Step(name="inbox/hand_back", args="recipient reader [ticket delivery]", flags=(OOM,)),
    Step(name="inbox/settle", args="recipient [ticket]", flags=(OOM,)),
    Step(name="inbox/delivery", args="recipient ticket", flags=(READS,)),
    Step(name="inbox/peek", args="recipient limit:int payloads:int"),
    Step(name="inbox/tidy", args="recipient deliveries keep_ms", flags=(OOM,)),
    Step(name="cache/get", args="name policy local_hits [context]", reply=Reply.LIST),
    Step(name="cache/put", args="context name digest value ttl_ms policy max_bytes mode", reply=Reply.LIST),
    Step(name="cache/hide", args="context name ttl_ms policy max_bytes mode", reply=Reply.TEXT),
    Step(name="cache/delete", args="ttl_ms policy max_bytes depth [context_or_name]", reply=Reply.LIST,
        flags=(OOM,)),
    Step(name="cache/drop", args="[context]", flags=(OOM,)),
    Step(name="cache/expire", args="limit", reply=Reply.NUMBER, flags=(OOM,)),
    Step(name="cache/visible", args="limit_bytes:int [context]", reply=Reply.LIST, flags=(READS,)),
    Step(name="log/append", args="attempt:int skipped:int head_bytes:int tail_bytes:int file text"),
    Step(
        name="queue/fetch", keys=(3, 3), args="posted done:int [tag_or_queue]", flags=(OOM,),
    ),
    Step(name="event/append", args="kind subject [field value]", reply=Reply.TEXT, flags=(OOM,)),
    Step(name="event/request", args="ttl_ms:int [kind]", reply=Reply.NUMBER, flags=(OOM,)),
    Step(
        name="event/forward", reply=Reply.NUMBER, flags=(OOM,),
        args="source number:int [kind subject actor repos title whole]",
    ),
    Step(name="event/trim", args="position", reply=Reply.NUMBER, flags=(OOM,)),
    Step(name="fleet/meet", keys=(4, 4), args="version gone_after_ms:int ecosystem longest:int",
        reply=Reply.LIST),
    Step(name="fleet/set_apart", keys=(2, 2), args="type kept_s:int", reply=Reply.TEXT, flags=(OOM,)),
)  # fmt: skip

STEPS: Mapping[str, Step] = {step.name: step for step in _STEPS}


def function_base(name: str) -> str:
    """Return a function's name without the digest: `run_settle`."""
    return name.replace("/", "_")
