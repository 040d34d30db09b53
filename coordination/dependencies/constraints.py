"""Versions that a constraint admits, by the rules of the provider's language.

A Python provider is judged by PEP 440, through `packaging`; constraints in another dialect (`^1.2`, `1.x`,
`||`) are translated to PEP 440 specifiers first. Prereleases count as for `pip check`: see `Pep440Range`.

npm and Cargo write ranges of semantic versions: `^1.2.3`, `~1.2`, `1.x`, `>=1 <2 || 3.x`, `>=1.2, <1.5`.
Versions and their order come from the package semantic-version. Its NpmSpec is not used, because it differs
from node's semver where prereleases are named: `1.2.3-beta` admits 1.2.3 too, `<=1.2.3-beta` as well,
`>=1.0.0-rc.1 <1.0.0-rc.5` admits none between, `~1.2.0-beta` excludes 1.2.1; and `>= 1.2` is refused for its
blank. Operators that only Python has (`~=`, `==1.4.*`, `!=`) are read too, because people use them out of
habit.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce
from itertools import product

import semantic_version as semantic
from packaging.ranges import VersionRange
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from coordination.errors import UsageError


class Rules(StrEnum):
    """Rules by which versions and constraints are read."""

    PYTHON = "PEP 440"
    NPM = "npm"
    CARGO = "Cargo"
    ANY = "any"
    """Rules for a version from a tag, whose language is unknown: PEP 440 if that can read it, else npm's."""


EXAMPLES = {
    Rules.PYTHON: ">=1.2,<2 or ~=1.4",
    Rules.NPM: "^1.2.3 or >=1 <2 || 3.x",
    Rules.CARGO: "1.2 or >=1.2, <1.5",
    Rules.ANY: ">=1.2,<2 or ^1.2.3",
}

_OPERATORS: dict[str, Callable[[semantic.Version, semantic.Version], bool]] = {
    "=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_FIRST = semantic.Version("0.0.0")
_PART = r"(\d+|[xX*])"
_BLOCK = re.compile(
    rf"(\^|~>|~=|~|===?|=|!=|>=|<=|>|<)?\s*v?{_PART}(?:\.{_PART})?(?:\.{_PART})?(?:-([\w.-]+))?(?:\+[\w.-]+)?"
)
_SEPARATOR = re.compile(r"[\s,]*")
_HYPHEN = re.compile(r"\s*(\S+)\s+-\s+(\S+)\s*")


class InvalidVersion(ValueError):
    """The text is not a valid range or version."""


@dataclass(frozen=True, kw_only=True)
class Comparator:
    """A comparison with one version, like `>=1.2.0`."""

    operator: str
    target: semantic.Version

    def holds(self, version: semantic.Version) -> bool:
        return _OPERATORS[self.operator](version, self.target)


Together = tuple[Comparator, ...]
"""Comparators that must all hold."""


@dataclass(frozen=True, kw_only=True)
class SemverRange:
    """A range by npm's rules. `alternatives` are joined by `||`."""

    alternatives: tuple[Together, ...]

    def admits(self, version: str) -> bool:
        """Return whether the range has the version. Raises UsageError for text that is no version."""
        try:
            return self.contains(read_semver(version))
        except ValueError as error:
            hint = "a version is written like 1.2.3 or 2.0.0-rc.1"
            raise UsageError(f"{version!r} is not a semantic version", hint) from error

    def contains(self, version: semantic.Version) -> bool:
        version = version.truncate("prerelease")  # build metadata does not take part in the order
        return any(_admits(together, version) for together in self.alternatives)


def _admits(together: Together, version: semantic.Version) -> bool:
    """Return whether the comparators admit a version; a prerelease only if one names the same release, as in
    npm and Cargo.
    """
    if not all(comparator.holds(version) for comparator in together):
        return False
    named = (c.target for c in together if c.target.prerelease)
    return not version.prerelease or any(target.truncate() == version.truncate() for target in named)


def semver_disjoint(ranges: tuple[SemverRange, ...]) -> bool:
    """Return whether no version is in all of the ranges, which a few candidates decide.

    The least release in an intersection is 0.0.0, or is at or directly above a bound. The least prerelease in
    an intersection belongs to a release whose prereleases a bound names, and is the first of these, that
    bound, or directly above it.
    """
    bounds = {c.target for r in ranges for together in r.alternatives for c in together}
    candidates = {_FIRST, *(near for bound in bounds for near in _neighbours(bound))}
    return not any(all(r.contains(version) for r in ranges) for version in candidates)


def _neighbours(bound: semantic.Version) -> Iterator[semantic.Version]:
    release = bound.truncate()
    yield from (bound, release, _above(release))
    if bound.prerelease:
        yield _semver_prerelease(release, "0")
        yield _semver_prerelease(release, *bound.prerelease, "0")


def read_semver(text: str) -> semantic.Version:
    """Parse `1.2`, `v1.2.3` or `1.2.3-rc.1`. Raises InvalidVersion."""
    numbers, *rest = re.split(r"(?=[-+])", text.strip().removeprefix("v"), maxsplit=1)
    complete = numbers + ".0" * (2 - numbers.count("."))
    try:
        return semantic.Version(complete + "".join(rest))
    except ValueError as error:
        raise InvalidVersion(text) from error


def read_semver_range(text: str, *, bare: str = "=") -> SemverRange:
    """Parse a range. `bare` is the operator of a version without one: `=` for npm, `^` for Cargo. Raises
    InvalidVersion.
    """
    return SemverRange(
        alternatives=tuple(found for part in text.split("||") for found in _alternatives(part, bare))
    )


def _alternatives(part: str, bare: str) -> Iterator[Together]:
    part = part.strip(" ,\t\n")
    if hyphen := _HYPHEN.fullmatch(part):
        part = f">={hyphen[1]} <={hyphen[2]}"
    for choice in product(*(_comparators_of(block, bare) for block in _blocks(part))):
        yield tuple(comparator for together in choice for comparator in together)


def _blocks(part: str) -> Iterator[re.Match[str]]:
    position = 0
    while position < len(part):
        block = _BLOCK.match(part, position)
        if block is None:
            if part[position:].strip():
                raise InvalidVersion(part)
            return
        separator = _SEPARATOR.match(part, block.end())
        assert separator is not None
        if not separator[0] and block.end() < len(part):
            raise InvalidVersion(part)
        yield block
        position = separator.end()


def _comparators_of(block: re.Match[str], bare: str) -> tuple[Together, ...]:
    """Return the comparators of one block; only `!=` has two alternatives."""
    sign, *written, prerelease = block.groups()
    parts = [int(part) for part in _before_wildcard(written)]
    if prerelease and len(parts) < 3:
        raise InvalidVersion(block[0])
    floor = semantic.Version(
        ".".join(map(str, [*parts, 0, 0, 0][:3])) + (f"-{prerelease}" if prerelease else "")
    )
    wildcard = len(parts) < len([part for part in written if part])
    sign = sign or ("=" if wildcard else bare)
    return _ranges(sign.replace("===", "=").replace("==", "="), floor, parts)


def _before_wildcard(written: list[str | None]) -> Iterator[str]:
    for part in written:
        if part is None or not part.isdecimal():
            return
        yield part


def _ranges(sign: str, floor: semantic.Version, parts: list[int]) -> tuple[Together, ...]:
    if not parts:
        if sign in ("<", ">", "!="):
            raise InvalidVersion("no version is outside of all versions")
        return ((Comparator(operator=">=", target=_FIRST),),)
    ceiling = _ceiling(sign, floor, parts)
    from_here, until = Comparator(operator=">=", target=floor), Comparator(operator="<", target=ceiling)
    whole = len(parts) == 3
    match sign:
        case "^" | "~" | "~>" | "~=":
            return ((from_here, until),)
        case "=":
            return ((Comparator(operator="=", target=floor),) if whole else (from_here, until),)
        case "!=":
            above = (
                Comparator(operator=">", target=floor)
                if whole
                else Comparator(operator=">=", target=ceiling.truncate())
            )
            return ((Comparator(operator="<", target=floor),), (above,))
        case ">" if not whole:
            return ((Comparator(operator=">=", target=ceiling.truncate()),),)
        case "<=" if not whole:
            return ((until,),)
        case "<" if not whole:
            return ((Comparator(operator="<", target=_semver_prerelease(floor, "0")),),)
    return ((Comparator(operator=sign, target=floor),),)


def _ceiling(sign: str, floor: semantic.Version, parts: list[int]) -> semantic.Version:
    """Return the first version beyond the block, with `-0`, the least prerelease, to exclude prereleases of
    that release.
    """
    match sign:
        case "^":  # the leftmost number that is not 0 is fixed; for `^0.0` all written numbers
            kept = next((i for i, part in enumerate(parts) if part), len(parts) - 1)
        case "~" | "~>":
            kept = min(len(parts), 2) - 1
        case "~=":  # PEP 440: all numbers but the last one are fixed
            kept = max(len(parts) - 2, 0)
        case _:
            kept = len(parts) - 1
    numbers = [*parts[:kept], parts[kept] + 1, 0, 0][:3]
    return _semver_prerelease(semantic.Version(".".join(map(str, numbers))), "0")


def _above(release: semantic.Version) -> semantic.Version:
    return semantic.Version(major=release.major, minor=release.minor, patch=release.patch + 1)


def _semver_prerelease(release: semantic.Version, *identifiers: str) -> semantic.Version:
    return semantic.Version(
        major=release.major, minor=release.minor, patch=release.patch, prerelease=identifiers
    )


@dataclass(frozen=True, kw_only=True)
class Pep440Range:
    """A range by PEP 440. As in `pip check`, an installed prerelease satisfies `>=1.2`; `<2` excludes
    prereleases of 2.
    """

    range: VersionRange

    def admits(self, version: str) -> bool:
        return self.range.contains(_pep440_version(version), prereleases=True)


Allowed = Pep440Range | SemverRange


def read(constraint: str, rules: Rules) -> Allowed:
    """Parse a constraint. Raises UsageError with an example if it cannot be parsed."""
    try:
        if rules in (Rules.NPM, Rules.CARGO):
            return read_semver_range(constraint, bare="^" if rules is Rules.CARGO else "=")
        return Pep440Range(range=_pep440_range(constraint))
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
    of_python = [a.range for a in allowed if isinstance(a, Pep440Range)]
    of_semver = tuple(a for a in allowed if isinstance(a, SemverRange))
    together = reduce(VersionRange.intersection, of_python, VersionRange.full())
    return together.is_empty or semver_disjoint(of_semver)


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
        alternatives = read_semver_range(constraint).alternatives
        ranges = (SpecifierSet(",".join(map(_specifier, together))).to_range() for together in alternatives)
        return reduce(VersionRange.union, ranges, VersionRange.empty())


def _specifier(comparator: Comparator) -> str:
    target = comparator.target
    release = f"{target.major}.{target.minor}.{target.patch}"
    if target.prerelease and target.prerelease != ("0",):  # `<2.0.0-0` is `<2.0.0` in PEP 440
        release = _pep440_prerelease(f"{release}-{'.'.join(target.prerelease)}")
    return f"{'==' if comparator.operator == '=' else comparator.operator}{release}"


def _pep440_prerelease(text: str) -> str:
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
