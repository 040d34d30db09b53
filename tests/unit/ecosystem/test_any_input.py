"""Whatever the file holds: it is read, or refused in words. Never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_document import WHOLE
from test_refusals import JARGON

from coordination.ecosystem.diagnostics import RECORDS
from coordination.ecosystem.document import parse
from coordination.errors import InvalidFile
from tests.examples import examples

NAMES = sorted(
    {name for record in RECORDS.values() for name in record.model_fields} | {"type", "run", "gate", "<<"}
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates().map(str)
    | st.text(alphabet="aé :#1-\x00", max_size=5)
)
words = st.sampled_from(["pending", "shell", "python", "r", "T-1", "90s", "1.10", "halt", "rollback"])
values = st.recursive(
    scalars | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=20,
)


def judge(raw: bytes) -> None:
    refusal = None
    try:
        parse(raw, Path("ecosystem.yaml"))
    except InvalidFile as error:
        refusal = error
    assert refusal is None or (refusal.problems and not JARGON.search(refusal.message))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([k for k in RECORDS if k]), st.dictionaries(st.sampled_from(NAMES), values, max_size=6)
)
def test_any_values_in_any_section(section: str, fields: dict[str, Any]):
    data: Any = fields
    for name in reversed(section.split(".")):
        data = {name: data if name in ("settings", "coordination", "retry", "validation") else [data]}

    judge(json.dumps(data).encode())


@settings(max_examples=examples(200))
@given(st.data())
def test_any_slip_of_the_hand(data: st.DataObject):
    text = WHOLE
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 12))
        text = (
            text[:at]
            + data.draw(st.text(alphabet="\n\t -:#[]{}&*!|>'\"%@`?a1\x00é\ufeff", max_size=4))
            + text[at + cut :]
        )

    judge(text.encode())


@given(st.binary(max_size=40))
def test_any_bytes(raw: bytes):
    judge(raw)
