"""Versions that a constraint admits, by the rules of the provider's language.

A Python provider is judged by PEP 440, through `packaging`; constraints in another dialect (`^1.2`, `1.x`,
`||`) are translated to PEP 440 specifiers first. npm and Cargo are judged by `semver.py`, which reads PEP
440's operators as well. Prereleases count as they do for pip with installed versions, and for npm and Cargo:
see `Pep440` and `semver.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce

from packaging.ranges import VersionRange
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from coordination.dependencies import semver
from coordination.dependencies.semver import Comparator, InvalidVersion
from coordination.errors import UsageError


class Rules(StrEnum):
    PYTHON = "PEP 440"
    NPM = "npm"
    CARGO = "Cargo"
    ANY = "any"
    """Rules for a version from a tag, whose language is unknown: PEP 440 if it can be parsed
    so, else npm's.
    """


EXAMPLES = {
    Rules.PYTHON: ">=1.2,<2 or ~=1.4",
    Rules.NPM: "^1.2.3 or >=1 <2 || 3.x",
    Rules.CARGO: "1.2 or >=1.2, <1.5",
    Rules.ANY: ">=1.2,<2 or ^1.2.3",
}


@dataclass(frozen=True, kw_only=True)
class Pep440:
    """A range by PEP 440. As in `pip check`, an installed prerelease satisfies `>=1.2`; `<2` excludes
    prereleases of 2.
    """

    range: VersionRange

    def admits(self, version: str) -> bool:
        return self.range.contains(_pep440_version(version), prereleases=True)


@dataclass(frozen=True, kw_only=True)
class Semver:
    range: semver.Range

    def admits(self, version: str) -> bool:
        try:
            return self.range.admits(semver.read_version(version))
        except ValueError as error:
            hint = "a version is written like 1.2.3 or 2.0.0-rc.1"
            raise UsageError(f"{version!r} is not a semantic version", hint) from error


Allowed = Pep440 | Semver


def read(constraint: str, rules: Rules) -> Allowed:
    """Parse a constraint. Raises UsageError with an example if it cannot be parsed."""
    try:
        if rules in (Rules.NPM, Rules.CARGO):
            return Semver(range=semver.read_range(constraint, bare="^" if rules is Rules.CARGO else "="))
        return Pep440(range=_pep440_range(constraint))
    except ValueError as error:  # also raised by packaging and semantic-version for a number of 5,000 digits
        message = f"version_constraint {constraint!r} cannot be read"
        raise UsageError(message, f"write it like {EXAMPLES[rules]}") from error


def satisfies(version: str, constraint: str, rules: Rules) -> bool:
    """Return whether the constraint admits the version. Raises UsageError if either cannot be parsed."""
    return read(constraint, rules_for(version, rules)).admits(version)


def rules_for(version: str, rules: Rules) -> Rules:
    """Return the rules by which a version is judged."""
    if rules is not Rules.ANY:
        return rules
    try:
        Version(version)
    except ValueError:
        return Rules.NPM
    return Rules.PYTHON


def disjoint(allowed: Sequence[Allowed]) -> bool:
    """Return whether no version is in all of these ranges, which must have been read by the same rules."""
    of_python = [a.range for a in allowed if isinstance(a, Pep440)]
    of_semver = tuple(a.range for a in allowed if isinstance(a, Semver))
    together = reduce(VersionRange.intersection, of_python, VersionRange.full())
    return together.is_empty or semver.disjoint(of_semver)


def _pep440_version(text: str) -> Version:
    try:
        return Version(text)
    except ValueError as error:
        raise UsageError(
            f"{text!r} is not a PEP 440 version", "a version is written like 1.2.3 or 2.0rc1"
        ) from error


def _pep440_range(constraint: str) -> VersionRange:
    try:
        return SpecifierSet(constraint).to_range()
    except InvalidSpecifier:
        alternatives = semver.read_range(constraint).alternatives
        ranges = (SpecifierSet(",".join(map(_specifier, together))).to_range() for together in alternatives)
        return reduce(VersionRange.union, ranges, VersionRange.empty())


def _specifier(comparator: Comparator) -> str:
    target = comparator.target
    release = f"{target.major}.{target.minor}.{target.patch}"
    if target.prerelease and target.prerelease != ("0",):  # `<2.0.0-0` is `<2.0.0` in PEP 440
        release = _prerelease(f"{release}-{'.'.join(target.prerelease)}")
    return f"{'==' if comparator.operator == '=' else comparator.operator}{release}"


def _prerelease(text: str) -> str:
    """Return a semver prerelease that PEP 440 reads as one, like `2.0.0-rc.1`; raises InvalidVersion for
    others.

    For PEP 440, `2.0.0-1` would come after 2.0.0, and `2.0.0-next` is not a version.
    """
    try:
        if Version(text).is_prerelease:
            return text
    except ValueError:
        pass
    raise InvalidVersion(text)
