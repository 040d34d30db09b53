"""The base class of declared steps: argument order, checks of a call, and conversion of the reply."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from inspect import get_annotations
from itertools import chain
from typing import Any, ClassVar, Generic, TypeVar, dataclass_transform, get_args, get_origin

from coordination.errors import CoordinationError

R = TypeVar("R", covariant=True)
StepValue = str | int | float | bytes
"""A value that redis-py sends as an argument."""

ANY_NUMBER = 100_000
"""Limit of keys or arguments of a step with lists. Redis accepts more, Lua's `unpack` does not."""


class Flag(StrEnum):
    """Flags of Redis Functions."""

    NO_WRITES = "no-writes"
    """The step only reads. Redis also executes it while it refuses writes, for example with a full disk."""
    ALLOW_OOM = "allow-oom"
    """Redis executes the step even when it is out of memory: the step frees memory or records a result."""


OOM, READS = (Flag.ALLOW_OOM,), (Flag.NO_WRITES,)


class StepMisuse(CoordinationError):
    """A fault of coord: the call or the reply of a step does not match its declaration."""

    def __init__(self, fact: str) -> None:
        super().__init__(f"coord has a fault: {fact}", "report it together with the command")


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Step(Generic[R]):
    """A call of a step; R is the type of its reply.

    A subclass declares one step. Its fields are the arguments, in the order of ARGV; mypy checks them as
    those of a dataclass. Lists come last: a `Collection` of values, or of tuples of values. Each list but the
    last is preceded by its length. The class takes the name of the step, `package/file`, the number of its
    keys (or minimum and maximum), and its flags.
    """

    name: ClassVar[str]
    counts: ClassVar[tuple[int, int, int, int]]
    """Minimum and maximum number of keys, then of arguments."""
    flags: ClassVar[tuple[Flag, ...]]
    _order: ClassVar[tuple[str, ...]]
    """Names of the fields, the lists last."""
    _integers: ClassVar[tuple[int, ...]]
    """Positions of the fields that must be integers."""
    _lists: ClassVar[tuple[bool, ...]]
    """True if the items of each list are tuples."""

    def __init_subclass__(
        cls, *, name: str = "", keys: int | tuple[int, int] = 1, flags: tuple[Flag, ...] = ()
    ) -> None:
        if not name:
            return  # a base of several steps
        declaring = [base for base in reversed(cls.__mro__) if issubclass(base, Step) and base is not Step]
        fields = {field: kind for base in declaring for field, kind in get_annotations(base).items()}
        lists = {field: kind for field, kind in fields.items() if get_origin(kind) is Collection}
        values = [field for field in fields if field not in lists]
        cls.name, cls.flags, cls._order = name, flags, (*values, *lists)
        cls._integers = tuple(i for i, field in enumerate(values) if fields[field] is int)
        cls._lists = tuple(get_origin(get_args(kind)[0]) is tuple for kind in lists.values())
        fixed = len(values) + max(0, len(lists) - 1)
        least, most = keys if isinstance(keys, tuple) else (keys, keys)
        cls.counts = (least, most, fixed, ANY_NUMBER if lists else fixed)
        if STEPS.setdefault(name, cls) is not cls:
            raise StepMisuse(f"step {name} is declared twice")

    def __init__(self, **fields: Any) -> None:
        self.__dict__ = fields

    def arguments(self) -> list[StepValue]:
        """Return ARGV. Raises StepMisuse if a field is missing or unknown, or is not the declared integer."""
        fields = vars(self)
        # Callers give the fields in the declared order, which halves the time of this method.
        words = list(fields.values()) if tuple(fields) == self._order else self._ordered(fields)
        for i in self._integers:
            if type(words[i]) is not int:
                raise StepMisuse(f"step {self.name}: {self._order[i]} is {words[i]!r}")
        if self._lists:
            self._append_lists(words)
        return words

    def _append_lists(self, words: list[Any]) -> None:
        """Replace the lists at the end of the words by their items."""
        last = words.pop()
        if len(self._lists) > 1:
            count = len(self._lists) - 1
            others = words[-count:]
            del words[-count:]
            for items, of_tuples in zip(others, self._lists, strict=False):
                words.append(len(items))
                words += chain.from_iterable(items) if of_tuples else items
        words += chain.from_iterable(last) if self._lists[-1] else last

    def _ordered(self, fields: dict[str, Any]) -> list[Any]:
        """Return the values of the fields in the declared order."""
        if wrong := fields.keys() ^ set(self._order):
            raise StepMisuse(f"step {self.name} was called with wrong fields: {', '.join(sorted(wrong))}")
        return [fields[field] for field in self._order]

    def read(self, reply: Any) -> R:
        """Convert the reply of Redis. Raises TypeError if it has another shape."""
        raise NotImplementedError

    def result(self, reply: Any) -> R:
        """Convert the reply of Redis. Raises StepMisuse if it has another shape than declared."""
        try:
            return self.read(reply)
        except TypeError as error:
            raise StepMisuse(f"step {self.name} returned {reply!r:.200}: {error}") from error


STEPS: dict[str, type[Step[Any]]] = {}
"""The declared steps by name."""


class VoidStep(Step[None]):
    """A step without a result."""

    def read(self, reply: Any) -> None:
        return None


class NumberStep(Step[int]):
    def read(self, reply: Any) -> int:
        return checked(int, reply)


class TruthStep(Step[bool]):
    """A step that returns 1 or 0."""

    def read(self, reply: Any) -> bool:
        return checked(int, reply) == 1


class TextStep(Step[str]):
    def read(self, reply: Any) -> str:
        return text(reply)


class TextsStep(Step[list[str]]):
    """A step that returns a list of texts."""

    def read(self, reply: Any) -> list[str]:
        return list(map(text, checked(list, reply)))


T = TypeVar("T")


def checked(kind: type[T], value: Any) -> T:
    """Return the value. Raises TypeError if it has another type."""
    if not isinstance(value, kind):
        raise TypeError(f"{value!r:.100} is no {kind.__name__}")
    return value


def text(value: Any) -> str:
    """Return a text, also of a client that does not decode. Raises TypeError if it is none."""
    return value if isinstance(value, str) else checked(bytes, value).decode()
