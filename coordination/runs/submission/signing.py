"""Sign the order of a run at its submission: the header, the blocks of its todos, the parts of its brief."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import timedelta

from coordination.models import OnFailure
from coordination.runs.brief import RunBrief, common_part, parts_of
from coordination.runs.signed.orders import HEADER, PART, block_field, part_field
from coordination.runs.submission.draft import Draft
from coordination.trust.break_glass import current_emergency
from coordination.trust.envelope import seal
from coordination.trust.keys import Signer
from coordination.trust.orders import ORDER, RunOrder, StartKind, blocks_of, digest, times


@dataclass(frozen=True, kw_only=True)
class Signing:
    """The identity that signs the orders of this process, and how long they are valid."""

    signer: Signer
    ttl: timedelta
    two_persons: bool = False
    """True for a retry whose ended run asked for two persons."""

    def write(
        self,
        draft: Draft,
        brief: RunBrief,
        brief_json: str,
        operation: StartKind,
        on_failure: OnFailure,
        *,
        two_persons: bool = False,
        done: Collection[str] = (),
    ) -> None:
        """Add the signed order of a written draft. `done`: todos that were completed in the file. Raises
        CoordinationError where the key cannot be used.
        """
        blocks = list(blocks_of(draft.leaves))
        fields = {block_field(i): text for i, (_, text) in enumerate(blocks)} | dict(_parts(brief))
        envelope, emergency = current_emergency(self.signer)
        if emergency is not None:  # for views; workers read the order
            draft.set(draft.keys.meta, {"break_glass": emergency.reason})
        order = RunOrder(
            namespace=draft.namespace,
            run=draft.run_id,
            operation=operation,
            plan=brief.plan_id,
            on_failure=on_failure.value,
            two_persons=two_persons or self.two_persons,
            brief=digest(brief_json),
            parts=tuple(digest(text) for name, text in fields.items() if name.startswith(PART)),
            done=tuple(sorted(done)),
            blocks=tuple((first, digest(text)) for first, text in blocks),
            break_glass=envelope,
            **times(self.ttl),
        )
        header = seal(ORDER, order.model_dump_json().encode(), self.signer)
        draft.set(draft.keys.order, {HEADER: header.decode(), **fields})


def _parts(brief: RunBrief) -> Iterator[tuple[str, str]]:
    yield PART, common_part(brief).model_dump_json()
    for part in parts_of(brief):
        yield part_field(part.repo), part.model_dump_json()
