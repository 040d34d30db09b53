"""The library reference lists what users of a `Coord` have, each once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coordination import Coord
from coordination.api.access import EcosystemAccess
from coordination.api.facade import Facade
from coordination.declared import find
from coordination.operation_index import INDEX

REFERENCE = (Path(__file__).parents[2] / "docs" / "library.md").read_text()
HEADINGS = re.findall(r"^#{3,4} (.+)$", REFERENCE, re.MULTILINE)
SIGNATURES = re.findall(r"^```text\n(.+?)\n```", REFERENCE, re.MULTILINE | re.DOTALL)
PUBLIC = {name for kind in (Facade, Coord) for name in vars(kind) if not name.startswith("_")}


@pytest.mark.parametrize("name", INDEX)
def test_an_operation_is_listed(name: str):
    owner, method = INDEX[name].part.partition(":")[2], find(INDEX[name].part, name).function.__name__
    ending = "()" if method == "__call__" else f".{method}"

    assert any(_is_of(one, owner) for one in HEADINGS if one.endswith(ending))


def _is_of(heading: str, owner: str) -> bool:
    """Return whether a member that the reference lists is one of this class."""
    first, _, rest = heading.partition(".")
    if first != "coord":
        return first == owner
    annotations = {name: _annotation(getattr(Facade, name, None)) for name in PUBLIC}
    return annotations.get(rest.partition(".")[0].removesuffix("()")) == owner


def _annotation(member: object) -> object:
    return getattr(getattr(member, "func", None), "__annotations__", {}).get("return")


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_attribute_of_a_coord_is_listed_once(name: str):
    assert len({f"Coord.{name}", f"coord.{name}"} & {*HEADINGS}) == 1


def test_what_is_for_the_parts_of_the_facade_is_not_listed():
    internal = {name for name in dir(EcosystemAccess) if not name.startswith("_")} - PUBLIC

    assert {"ask_live", "announce_checks"} <= internal
    assert not internal & {one.partition(".")[2] for one in HEADINGS if one.lower().startswith("coord.")}


def test_a_member_of_a_part_is_listed_once():
    members = [heading for heading in HEADINGS if heading.startswith(("coord.", "Coord.", "Run."))]

    assert len(members) == len({*members})


def test_a_signature_shows_types_without_what_only_front_ends_read():
    hidden = re.compile(r"Annotated|Option\(|: (Names|OfPhase|PlanId)\b")

    assert not [text for text in SIGNATURES if hidden.search(text)]
