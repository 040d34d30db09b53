"""Parameters of a template: the given values checked, put into texts, and handed to commands as variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from coordination.errors import UsageError
from coordination.models.templates import REFERENCE, VARIABLE, Template
from coordination.text import did_you_mean, listed

Values = Mapping[str, str]


def read_values(template: Template, given: Mapping[str, object]) -> Values:
    """Return the text of every parameter. Raises UsageError with all problems at once."""
    see = f"see its parameters: coord show-template {template.name}"
    parameters = {parameter.name: parameter for parameter in template.parameters}
    problems = [
        f"there is no parameter {name!r}{did_you_mean(name, parameters)}"
        for name in given
        if name not in parameters
    ]
    missing = [p.name for p in template.parameters if p.is_required and given.get(p.name) is None]
    if missing:
        options = " ".join(f"--set {name}=…" for name in missing)
        problems.append(f"{listed(missing)} {'is' if len(missing) == 1 else 'are'} missing: {options}")
    values = {}
    for name, parameter in parameters.items():
        value = given.get(name)
        try:
            values[name] = parameter.empty if value is None else parameter.read(value)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise UsageError(f"template {template.name}: {'; '.join(problems)}", see)
    return values


def replaced(value: Any, values: Values) -> Any:
    """Return a value of JSON's kinds with the parameters in its texts replaced, each once."""
    if isinstance(value, str):
        return REFERENCE.sub(lambda found: _one(found, values), value)
    if isinstance(value, Mapping):
        return {name: replaced(inner, values) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [replaced(inner, values) for inner in value]
    return value


def _one(found: re.Match[str], values: Values) -> str:
    escaped, name = found.groups()
    if escaped:
        return found.group().removeprefix("$")
    return values.get(name, found.group())


def variables(command: object, values: Values) -> dict[str, str]:
    """Return the parameters that a command for a shell names, as its environment variables."""
    named = dict.fromkeys(VARIABLE.findall(command)) if isinstance(command, str) else {}
    return {name: values[name] for name in named if name in values}
