"""Values that todos share: read, set, listed, deleted, copied to files and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from coordination.cache.contexts import CacheStats, Context, Kept
from coordination.cache.names import Scope
from coordination.declared import Effect, Option, operation
from coordination.environment import refuse_in_todo
from coordination.frozen import FrozenModel

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess
    from coordination.cache.connection import TodoContext

FOREIGN = "a context other than its own"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A context: of the ecosystem, of a plan, of a run or of a todo. A command of a todo that names none of
    them means its own.
    """

    scope: Annotated[
        Scope | None, Option("Use the values of the ecosystem, the plan, the run or the todo only.")
    ] = None
    plan: Annotated[
        str,
        Option("Use the context of this plan, which all its runs see.", metavar="PLAN", completes="plan_ids"),
    ] = ""
    run: Annotated[
        str,
        Option(
            "Use the context of this run: an id, or `last`.",
            metavar="RUN",
            completes="run_ids",
            for_agents="Without run and plan: the context of the ecosystem.",
        ),
    ] = ""
    todo: Annotated[
        str, Option("Use the context of this todo of the run.", metavar="TODO", completes="todo_ids")
    ] = ""


HERE = Place()


class SharedValue(FrozenModel):
    """A value that todos share."""

    key: str
    found: bool
    value: Any = None


class Deleted(FrozenModel):
    deleted: int
    """Number of deleted values."""


class Copied(FrozenModel):
    """A file with values."""

    file: Path
    values: int
    """Number of values that were written to it, or taken from it."""


Key = Annotated[str, Option("The name of the value.")]
Ttl = Annotated[
    timedelta | None, Option("Keep it for so long (default: `cache_ttl`, 1h).", metavar="DURATION")
]
Regex = Annotated[bool, Option("Read the pattern as a regular expression; it may match anywhere in a key.")]


class Contexts:
    """`coord.context`, and `coord.context(plan="P")`, one of them."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    def __call__(self, *, plan: str = "", run: str = "", todo: str = "") -> Context:
        """Return the context of a todo of a run, of a run (or `last`), of a plan, or of the ecosystem. A
        change of a value raises NotAllowed without the right.
        """
        from coordination.runs.run_contexts import context_of

        with self._access.reached() as connection:
            return context_of(
                connection.cache, plan, run, todo, lambda: self._access.authority.check("context.set")
            )

    @operation("context.get", Effect.READS, for_agents="A missing value may have expired.")
    def get(self, key: Key, place: Place = HERE) -> SharedValue:
        """Read a value that todos share. A run sees the values of its plan, and both see those of the
        ecosystem.
        """
        absent = object()
        with self._opened(place) as context:
            value = context.get(key, absent, scope=place.scope)
        return SharedValue(key=key, found=False) if value is absent else _found(key, value)

    @operation("context.set", Effect.CHANGES, right="edit")
    def set(
        self, key: Key, value: Annotated[Any, Option("Any JSON.")], place: Place = HERE, *, ttl: Ttl = None
    ) -> SharedValue:
        """Set a value that todos share. The contexts within the chosen one see it, outer ones do not.

        Raises UsageError, NoRoom, NotAllowed.
        """
        with self._opened(place) as context:
            context.set(key, value, ttl, scope=place.scope)
        return _found(key, value)

    @operation("context.list", Effect.READS)
    def list(
        self,
        pattern: Annotated[str, Option("Keys to list, such as `build.*` (default: all).")] = "*",
        place: Place = HERE,
        *,
        regex: Regex = False,
    ) -> tuple[Kept, ...]:
        """List the visible keys of values that todos share."""
        anything = ".*" if regex and pattern == "*" else pattern
        with self._opened(place) as context:
            return tuple(context.list(anything, scope=place.scope, regex=regex))

    @operation("context.delete", Effect.CHANGES, right="edit")
    def delete(
        self,
        names: Annotated[
            Sequence[str], Option("Keys, or patterns such as `build.*`.", metavar="KEY|PATTERN…")
        ],
        place: Place = HERE,
        *,
        ttl: Annotated[
            timedelta | None,
            Option("Hide outer values for so long (default: `cache_ttl`).", metavar="DURATION"),
        ] = None,
        regex: Regex = False,
    ) -> Deleted:
        """Delete values that todos share. Values of outer contexts stay there, hidden from this one.

        Raises NotAllowed.
        """
        with self._opened(place) as context:
            return Deleted(deleted=context.delete(*names, scope=place.scope, ttl=ttl, regex=regex))

    @operation("context.export", Effect.READS, tool=False)
    def export(self, file: Annotated[str | Path, Option("The file to write.")]) -> Copied:
        """Write the values of all contexts to a file, as lines of JSON.

        Raises Conflict for an ecosystem file.
        """
        from coordination.cache.copies import export

        refuse_in_todo(FOREIGN)
        path = Path(file)
        self._access.refuse_replacing(path)
        with self._access.answering() as connection:
            cache = connection.cache
            return Copied(file=path, values=export(cache.entries, cache.namespace, path))

    @operation("context.import", Effect.CHANGES, right="administer", tool=False)
    def import_(
        self,
        file: Annotated[str | Path, Option("A file that `coord context export` wrote.")],
        *,
        keep: Annotated[bool, Option("Leave existing values as they are.")] = False,
    ) -> Copied:
        """Import the values of a file; each keeps its remaining time. A file with a mistake changes nothing.

        Raises UsageError, NotAllowed.
        """
        from coordination.cache.copies import restore

        refuse_in_todo(FOREIGN)
        self._access.authority.check("context.import")
        path = Path(file)
        with self._access.answering() as connection:
            return Copied(file=path, values=restore(connection.cache.entries, path, only_new=keep))

    @operation("context.stats", Effect.READS)
    def stats(self) -> CacheStats:
        """Show statistics of shared values and cached results: size, hits, evictions."""
        refuse_in_todo(FOREIGN)
        with self._access.answering() as connection:
            return connection.cache.stats()

    @contextmanager
    def _opened(self, place: Place) -> Iterator[Context | TodoContext]:
        """Open a context for the block."""
        from coordination.cache.connection import todo_context

        named = self._access.redis_is_named or place.plan or place.run or place.todo
        if not named and (own := todo_context()) is not None:
            yield own
            return
        refuse_in_todo(FOREIGN)
        with self._access.answering():
            yield self(plan=place.plan, run=place.run, todo=place.todo)


def _found(key: str, value: Any) -> SharedValue:
    return SharedValue(key=key, found=True, value=value)
