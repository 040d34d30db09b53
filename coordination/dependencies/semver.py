"""Ranges of semantic versions as npm and Cargo write them: `^1.2.3`, `~1.2`, `1.x`, `>=1 <2 || 3.x`, `>=1.2,
<1.5`.

Versions and their order come from the package semantic-version. Its NpmSpec is not used, because it differs
from node's semver where prereleases are named: `1.2.3-beta` admits 1.2.3 too, `<=1.2.3-beta` as well,
`>=1.0.0-rc.1 <1.0.0-rc.5` admits none between, `~1.2.0-beta` excludes 1.2.1; and `>= 1.2` is refused for its
blank. Operators that only Python has (`~=`, `==1.4.*`, `!=`) are read too, because people use them out of
habit.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

from semantic_version import Version

OPERATORS: dict[str, Callable[[Version, Version], bool]] = {
    "=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_FIRST = Version("0.0.0")
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
    operator: str
    target: Version

    def holds(self, version: Version) -> bool:
        return OPERATORS[self.operator](version, self.target)


Together = tuple[Comparator, ...]
"""Comparators that must all hold."""


@dataclass(frozen=True, kw_only=True)
class Range:
    alternatives: tuple[Together, ...]

    def admits(self, version: Version) -> bool:
        version = version.truncate("prerelease")  # build metadata does not take part in the order
        return any(_admits(together, version) for together in self.alternatives)


def _admits(together: Together, version: Version) -> bool:
    """Return whether the comparators admit a version; a prerelease only if one names the same release, as in
    npm and Cargo.
    """
    if not all(comparator.holds(version) for comparator in together):
        return False
    named = (c.target for c in together if c.target.prerelease)
    return not version.prerelease or any(target.truncate() == version.truncate() for target in named)


def disjoint(ranges: tuple[Range, ...]) -> bool:
    """Return whether no version is in all of the ranges, which a few candidates decide.

    The least release in an intersection is 0.0.0, or is at or directly above a bound. The least prerelease in
    an intersection belongs to a release whose prereleases a bound names, and is the first of these, that
    bound, or directly above it.
    """
    bounds = {c.target for r in ranges for together in r.alternatives for c in together}
    candidates = {_FIRST, *(near for bound in bounds for near in _neighbours(bound))}
    return not any(all(r.admits(version) for r in ranges) for version in candidates)


def _neighbours(bound: Version) -> Iterator[Version]:
    release = bound.truncate()
    yield from (bound, release, _above(release))
    if bound.prerelease:
        yield _prerelease(release, "0")
        yield _prerelease(release, *bound.prerelease, "0")


def read_version(text: str) -> Version:
    """Parse `1.2`, `v1.2.3` or `1.2.3-rc.1`. Raises InvalidVersion."""
    numbers, *rest = re.split(r"(?=[-+])", text.strip().removeprefix("v"), maxsplit=1)
    complete = numbers + ".0" * (2 - numbers.count("."))
    try:
        return Version(complete + "".join(rest))
    except ValueError as error:
        raise InvalidVersion(text) from error


def read_range(text: str, *, bare: str = "=") -> Range:
    """Parse a range. `bare` is the operator of a version without one: `=` for npm, `^` for Cargo. Raises
    InvalidVersion.
    """
    return Range(
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
    floor = Version(".".join(map(str, [*parts, 0, 0, 0][:3])) + (f"-{prerelease}" if prerelease else ""))
    wildcard = len(parts) < len([part for part in written if part])
    sign = sign or ("=" if wildcard else bare)
    return _ranges(sign.replace("===", "=").replace("==", "="), floor, parts)


def _before_wildcard(written: list[str | None]) -> Iterator[str]:
    for part in written:
        if part is None or not part.isdecimal():
            return
        yield part


def _ranges(sign: str, floor: Version, parts: list[int]) -> tuple[Together, ...]:
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
            return ((Comparator(operator="<", target=_prerelease(floor, "0")),),)
    return ((Comparator(operator=sign, target=floor),),)


def _ceiling(sign: str, floor: Version, parts: list[int]) -> Version:
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
    return _prerelease(Version(".".join(map(str, numbers))), "0")


def _above(release: Version) -> Version:
    return Version(major=release.major, minor=release.minor, patch=release.patch + 1)


def _prerelease(release: Version, *identifiers: str) -> Version:
    return Version(major=release.major, minor=release.minor, patch=release.patch, prerelease=identifiers)
