"""Checks of settings whose values need more than a type, and their long defaults."""

from __future__ import annotations

import ipaddress
import json
from string import Formatter
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from coordination.models import Agent

COMMIT_FIELDS = ("task", "todo", "plan", "run")
"""Placeholders allowed in `commit_message`."""


def split_words(value: object) -> object:
    """Accept `a, b` for a list, because environment variables cannot hold lists."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


def json_text(value: object) -> object:
    """Accept JSON for mappings, because environment variables are texts."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"needs mappings, as JSON in a variable: {error}") from error


def reject_repeated(agents: tuple[Agent, ...]) -> tuple[Agent, ...]:
    """Refuse two agents of one name."""
    names = [agent.name for agent in agents]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"has two agents with the name {twice}; name them differently")
    return agents


def network_text(value: str) -> str:
    """Return an address or a network in its usual form."""
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError as error:
        raise ValueError("needs addresses or networks like 10.0.0.7 or 10.0.0.0/8") from error


Networks = Annotated[tuple[Annotated[str, AfterValidator(network_text)], ...], BeforeValidator(split_words)]


def check_commit_message(value: str) -> str:
    """Refuse a template with other placeholders than `COMMIT_FIELDS`."""
    try:
        plain = all(
            name is None or (name in COMMIT_FIELDS and not spec and conversion is None)
            for _, name, spec, conversion in Formatter().parse(value)
        )
    except ValueError:
        plain = False
    if not plain:
        raise ValueError(
            f"may name {', '.join(f'{{{name}}}' for name in COMMIT_FIELDS)}; write {{{{ for a brace"
        )
    return value


SYNONYMS = (
    "bug defect error fault failure",
    "fix mend repair correct resolve",
    "slow performance latency timeout",
    "delete remove drop",
    "create add new",
    "test check verify",
    "login auth authentication",
    "docs documentation readme",
    "upgrade update bump migrate",
)


def word_off(value: object) -> object:
    """Return `off` for False: YAML 1.1 reads the word as false."""
    return "off" if value is False else value
