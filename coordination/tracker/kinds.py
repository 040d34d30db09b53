"""The kinds of records that the desk keeps, and what each is called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from coordination.errors import NotFound
from coordination.models import Dependency, Ecosystem, Issue, Milestone, Plan, Todo
from coordination.text import nearest

Work = Issue | Plan | Todo
"""What blockers name: these share one space of ids."""
Kept = Work | Dependency
R = TypeVar("R", bound=Kept)


@dataclass(frozen=True, kw_only=True)
class Kind(Generic[R]):
    noun: str
    section: str
    model: type[R]
    first_id: str
    """Its id where the file has none yet."""
    listed_by: str

    def all(self, ecosystem: Ecosystem) -> tuple[R, ...]:
        records: tuple[R, ...] = getattr(ecosystem.coordination, self.section)
        return records

    def get(self, ecosystem: Ecosystem, name: str) -> R:
        """Raises NotFound with what was probably meant, be it of another kind."""
        for record in self.all(ecosystem):
            if record.id == name:
                return record
        other = next((kind for kind in KINDS if any(r.id == name for r in kind.all(ecosystem))), None)
        if other is not None:
            raise NotFound(f"{name} is no {self.noun} but {a(other.noun)}", f"see it: coord {other.shown_by} {name}")
        raise unknown(self.noun, name, [record.id for record in self.all(ecosystem)], self.listed_by)

    @property
    def shown_by(self) -> str:
        return self.listed_by.replace("list-", "show-").removesuffix("s")


ISSUE = Kind(noun="issue", section="issues", model=Issue, first_id="ISSUE-001", listed_by="list-issues")
PLAN = Kind(noun="plan", section="plans", model=Plan, first_id="PLAN-001", listed_by="list-plans")
TODO = Kind(noun="todo", section="todos", model=Todo, first_id="TODO-001", listed_by="list-todos")
DEPENDENCY = Kind(
    noun="dependency", section="dependencies", model=Dependency, first_id="DEP-001", listed_by="list-deps"
)
KINDS: Sequence[Kind[Issue] | Kind[Plan] | Kind[Todo] | Kind[Dependency]] = (ISSUE, PLAN, TODO, DEPENDENCY)
WORK: Sequence[Kind[Issue] | Kind[Plan] | Kind[Todo]] = (ISSUE, PLAN, TODO)


_NOUNS: dict[type, str] = {Milestone: "milestone", **{kind.model: kind.noun for kind in KINDS}}


def kind_of(record: object) -> str:
    return TODO.noun if isinstance(record, Todo) else _NOUNS[type(record)]


def title_of(record: Kept | Milestone) -> str:
    match record:
        case Todo():
            return record.task
        case Milestone():
            return record.name
        case Dependency():
            return f"{record.consumer} needs {record.provider}"
        case _:
            return record.title


def repos_of(record: Kept | Milestone) -> tuple[str, ...]:
    match record:
        case Todo():
            return (record.repo,)
        case Issue() | Plan():
            return record.repos
        case Dependency():
            return (record.consumer, record.provider)
        case _:
            return ()


def unknown(noun: str, name: str, known: Iterable[str], listed_by: str) -> NotFound:
    """The error, with what was probably meant."""
    close = nearest(name, tuple(known))
    hint = f"did you mean {close}?" if close else f"see what there is: coord {listed_by}"
    return NotFound(f"there is no {noun} {name!r}", hint)


def a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
