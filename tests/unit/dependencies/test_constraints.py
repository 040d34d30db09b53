"""Constraints by the rules of the provider's language, as tables."""

from __future__ import annotations

import pytest

from coordination.dependencies.constraints import Rules, read, rules_for, satisfies
from coordination.errors import UsageError

PYTHON = [
    ("1.4.2", ">=1.2,<2", True),
    ("2.0", ">=1.2,<2", False),
    ("1.4.9", "~=1.4", True),
    ("2.0", "~=1.4", False),
    ("1.5", "~=1.4.1", False),
    ("1.4", "==1.4.*", True),
    ("1.4", "!=1.4.*", False),
    ("2.0rc1", ">=1.2", True),  # it is there, as pip check would say
    ("2.0rc1", "<2", False),
    ("2.0rc1", ">=2.0", False),
    ("1.4.post1", ">=1.4", True),
    ("1.4+local", "==1.4", True),
    # the other dialect
    ("1.4.2", "^1.2", True),
    ("2.0", "^1.2", False),
    ("2.0rc1", "^1.2", False),
    ("0.3", "^0.2.1", False),
    ("1.2.9", "~1.2", True),
    ("1.3", "~1.2.3", False),
    ("3.7", ">=1 <2 || 3.x", True),
    ("2.7", ">=1 <2 || 3.x", False),
    ("2024.3.1", "^2024.01", True),
    ("2.0rc2", "^2.0.0-rc.1", True),
    ("2.0rc1", "^2.0.0-rc.2", False),
    ("9", "*", True),
]
NPM = [
    ("1.4.2", "^1.2.3", True),
    ("2.0.0", "^1.2.3", False),
    ("0.2.9", "^0.2.3", True),
    ("0.3.0", "^0.2.3", False),
    ("0.0.4", "^0.0.3", False),
    ("1.2.9", "~1.2", True),
    ("1.3.0", "~1.2", False),
    ("1.9.0", "1.x", True),
    ("1.9.0", "1", True),
    ("1.2.3", "1.2.3", True),
    ("1.2.4", "1.2.3", False),
    ("3.1.0", ">=1 <2 || 3.x", True),
    ("2.0.0", "1.2 - 2.0", True),
    ("2.1.0", "1.2 - 2.0", False),
    ("1.4.0", ">= 1.2", True),
    ("2.0.0-rc.1", ">=1.2", False),  # nobody named a prerelease of 2.0.0
    ("2.0.0-rc.2", ">=2.0.0-rc.1", True),
    ("2.0.1-rc.1", ">=2.0.0-rc.1", False),
    ("1.2.3", "1.2.3-beta", False),
    ("1.2.3", "<=1.2.3-beta", False),
    ("1.0.0-rc.3", ">=1.0.0-rc.1 <1.0.0-rc.5", True),
    ("1.2.0-beta.2", "~1.2.0-beta.1", True),
    ("1.2.1", "~1.2.0-beta.1", True),
    ("1.2.3+build.7", "1.2.3", True),
    # Python's dialect
    ("1.4.2", ">=1.2,<2", True),
    ("1.9.0", "~=1.4", True),
    ("1.5.0", "~=1.4.1", False),
    ("1.4.0", "==1.4.*", True),
    ("1.4.0", "!=1.4.0", False),
    ("1.5.0", "!=1.4.*", True),
]
CARGO = [
    ("1.9.0", "1.2", True),
    ("1.9.0", "1.2.3", True),
    ("2.0.0", "1.2.3", False),
    ("0.3.0", "0.2", False),
    ("0.0.4", "0.0", True),
    ("1.2.3", "=1.2.3", True),
    ("1.4.0", ">=1.2, <1.5", True),
    ("1.5.0", ">=1.2, <1.5", False),
    ("1.3.0", "1.2.*", False),
    ("1.2.9", "~1.2.3", True),
]


def cases() -> list[tuple[str, str, Rules, bool]]:
    tables = {Rules.PYTHON: PYTHON, Rules.NPM: NPM, Rules.CARGO: CARGO}
    return [(v, c, rules, wanted) for rules, table in tables.items() for v, c, wanted in table]


@pytest.mark.parametrize(("version", "constraint", "rules", "wanted"), cases())
def test_a_version_satisfies_a_constraint_or_not(version: str, constraint: str, rules: Rules, wanted: bool):
    assert satisfies(version, constraint, rules) is wanted


@pytest.mark.parametrize("rules", list(Rules))
@pytest.mark.parametrize(
    "constraint", ["latest", "^one", "1.2.3.4.5.x", ">", "workspace:*", "~1.2.3-", "1.2-beta"]
)
def test_what_cannot_be_read_is_refused_with_an_example(constraint: str, rules: Rules):
    with pytest.raises(UsageError) as refused:
        read(constraint, rules)

    assert repr(constraint) in refused.value.message
    assert refused.value.hint.startswith("write it like ")


@pytest.mark.parametrize("constraint", ["^1.2.3-next", "^1.2.3-4", "1.2.3-rc.1²", ">=" + "9" * 5000])
def test_what_pep_440_does_not_know_is_not_mistaken_for_another_version(constraint: str):
    with pytest.raises(UsageError):
        read(constraint, Rules.PYTHON)


@pytest.mark.parametrize("rules", [Rules.PYTHON, Rules.NPM, Rules.CARGO])
def test_a_version_that_is_none_is_refused(rules: Rules):
    with pytest.raises(UsageError, match="soon"):
        satisfies("soon", ">=1", rules)


def test_a_tag_alone_is_judged_by_pep_440_if_it_can_be_read_so_else_by_npms_rules():
    assert rules_for("1.2rc1", Rules.ANY) is Rules.PYTHON
    assert rules_for("1.2.3-next.4", Rules.ANY) is Rules.NPM
    assert satisfies("1.2.3-next.4", "^1.2.3-next.1", Rules.ANY)
    assert satisfies("1.4.2", "^1.2", Rules.ANY)
