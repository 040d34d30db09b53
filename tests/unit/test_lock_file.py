"""requirements-dev.lock: its packages satisfy pyproject.toml on each supported platform."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements-dev.lock").read_text()
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = (("linux", "Linux", "x86_64"), ("linux", "Linux", "aarch64"), ("darwin", "Darwin", "arm64"))
Environment = Mapping[str, str]


class Pin(NamedTuple):
    requirement: Requirement
    hashes: frozenset[str]

    @property
    def version(self) -> str:
        [specifier] = self.requirement.specifier
        return specifier.version


def read_pins(text: str) -> Iterator[Pin]:
    for entry in text.replace("\\\n", "").splitlines():
        if entry[:1].isalnum():
            requirement, *hashes = re.split(r"\s+--hash=", entry)
            yield Pin(Requirement(requirement), frozenset(hashes))


PINS = list(read_pins(LOCK))


def declared() -> list[Requirement]:
    """Return the dependencies of coord and those of the extras that `make setup` installs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + extras["dev"] + extras["mcp"] + extras["web"]
    return [Requirement(line) for line in lines]


def environment_of(python: str, platform: tuple[str, str, str]) -> Environment:
    sys_platform, system, machine = platform
    here = {name: str(value) for name, value in default_environment().items()}
    return here | {
        "python_version": python,
        "python_full_version": f"{python}.9",
        "sys_platform": sys_platform,
        "platform_system": system,
        "platform_machine": machine,
    }


def applies(requirement: Requirement, environment: Environment, extra: str = "") -> bool:
    return requirement.marker is None or requirement.marker.evaluate({**environment, "extra": extra})


def pins_in(environment: Environment) -> dict[str, Pin]:
    return {
        canonicalize_name(pin.requirement.name): pin for pin in PINS if applies(pin.requirement, environment)
    }


def unsatisfied(requirements: Iterable[Requirement], environment: Environment) -> list[str]:
    """Return the requirements for which the lock file has no pin, or one of another version."""
    pins = pins_in(environment)
    return [
        str(requirement)
        for requirement in requirements
        if applies(requirement, environment)
        and not (
            (pin := pins.get(canonicalize_name(requirement.name)))
            and requirement.specifier.contains(pin.version, prereleases=True)
        )
    ]


@pytest.mark.parametrize(("python", "platform"), list(product(PYTHONS, PLATFORMS)))
def test_the_lock_file_satisfies_pyproject(python: str, platform: tuple[str, str, str]) -> None:
    missing = unsatisfied(declared(), environment_of(python, platform))

    assert missing == [], "renew the lock file: make lock"


def test_a_dependency_that_is_not_locked_or_locked_too_old_is_found() -> None:
    absent, too_old = Requirement("not-in-the-lock-file"), Requirement("click>=1000")

    assert unsatisfied([absent, too_old], environment_of("3.11", PLATFORMS[0])) == [str(absent), str(too_old)]


def test_the_dependencies_of_the_locked_packages_are_locked() -> None:
    """For this platform and the packages installed here in their locked version."""
    environment = {name: str(value) for name, value in default_environment().items()}
    pins = pins_in(environment)
    queue, seen = declared(), set()
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen or not applies(requirement, environment):
            continue
        seen.add(key)
        if metadata.version(name) != pins[name].version:
            continue  # installed without the lock file
        needed = [Requirement(line) for line in metadata.requires(name) or ()]
        extras = ("", *requirement.extras)
        needed = [one for one in needed if any(applies(one, environment, extra) for extra in extras)]
        assert unsatisfied([_without_marker(one) for one in needed], environment) == []
        queue += [_without_marker(one) for one in needed]


def _without_marker(requirement: Requirement) -> Requirement:
    plain = Requirement(str(requirement))
    plain.marker = None
    return plain


def test_every_locked_package_has_hashes_and_no_address() -> None:
    assert len(PINS) > 50
    assert all(pin.hashes for pin in PINS)
    assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for pin in PINS for value in pin.hashes)
    assert "://" not in LOCK
    assert not re.search(r"^-", LOCK, re.MULTILINE)  # no option, such as --index-url
