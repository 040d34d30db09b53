"""Checks of requests and answers against the extracts of the official OpenAPI descriptions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jsonschema import Draft202012Validator, FormatChecker

from tests.forge.openapi.operations import LISTS

FOLDER = Path(__file__).with_name("openapi")
EVERYWHERE = {301, 304, 307, 400, 401, 403, 404, 429, 500, 502, 503, 504}
"""Statuses that each operation may answer with, stated or not."""
GREEDY = ("branch", "ref", "sha", "label_id", "name")
"""Parameters whose value may hold slashes."""
FORMATS = FormatChecker(())


@FORMATS.checks("date-time", raises=ValueError)
def _is_time(value: Any) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


class Contract:
    """The described operations of one dialect."""

    def __init__(self, dialect: str) -> None:
        self.dialect = dialect
        self.document: dict[str, Any] = json.loads((FOLDER / f"{dialect}.json").read_text())
        self.operations: dict[str, dict[str, Any]] = self.document["operations"]
        longest_first = sorted(self.operations, key=len, reverse=True)
        self._patterns = [(name, _pattern(name)) for name in longest_first]

    def match(self, method: str, path: str) -> tuple[str, dict[str, str]] | None:
        """Return the operation of a request and the values in its (still quoted) path."""
        for name, pattern in self._patterns:
            if found := pattern.fullmatch(f"{method} {path}"):
                return name, {key: unquote(value) for key, value in found.groupdict().items()}
        return None

    def check_request(self, operation: str, query: Mapping[str, str], body: Any) -> list[str]:
        stated = self.operations[operation]
        known = set(stated["query"])
        if self.dialect == "gitlab" and operation in LISTS:
            known |= {"page", "per_page"}  # each list has pages, also where openapi_v2.yaml does not say so
        wrong = [f"{operation}: no query parameter {name}" for name in query if name not in known]
        for name, value in query.items():
            wrong += self._check(f"{operation}?{name}", stated["query"].get(name, {}), _typed(value))
        if stated["body"] is not None and body is not None:
            wrong += self._check(operation, stated["body"], body)
        elif body:
            wrong.append(f"{operation}: takes no body")
        return wrong

    def check_answer(self, operation: str, status: int, body: Any) -> list[str]:
        answers = self.operations[operation]["answers"]
        if self.dialect == "gitlab" and status in (201, 202) and "200" in answers:
            status = 200  # where no success is declared, GitLab's generator writes 200
        if answers and str(status) not in answers and status not in EVERYWHERE:
            return [f"{operation}: status {status} is not described"]
        schema = answers.get(str(status))
        return self._check(f"{operation} {status}", schema, body) if schema else []

    def complete(self, operation: str, status: int, body: Any) -> Any:
        """Fill in fields that the description requires and the test forge has no use for: neutral values."""
        schema = self.operations[operation]["answers"].get(str(status))
        return self._complete(schema, body) if schema else body

    def _check(self, place: str, schema: Any, value: Any) -> list[str]:
        whole = {**schema, "schemas": self.document["schemas"]}
        validator = Draft202012Validator(whole, format_checker=FORMATS)
        return [f"{place} {error.json_path}: {error.message[:300]}" for error in validator.iter_errors(value)]

    def _resolve(self, schema: dict[str, Any], value: Any = None) -> dict[str, Any]:
        """Follow references; of alternatives take the first that a value may be meant for."""
        while "$ref" in schema:
            schema = self.document["schemas"][schema["$ref"].rpartition("/")[2]]
        for key in ("anyOf", "oneOf"):
            if key in schema and "properties" not in schema:
                options = [self._resolve(option) for option in schema[key]]
                return next((option for option in options if _may_be(option, value)), options[0])
        return schema

    def _complete(self, schema: dict[str, Any], value: Any) -> Any:
        schema = self._resolve(schema, value)
        if isinstance(value, list):
            return [self._complete(schema.get("items", {}), one) for one in value]
        if not isinstance(value, dict):
            return value
        properties = schema.get("properties", {})
        filled = {name: self._complete(properties.get(name, {}), one) for name, one in value.items()}
        missing = [name for name in schema.get("required", ()) if name not in filled]
        return filled | {name: self._neutral(properties.get(name, {})) for name in missing}

    def _neutral(self, schema: dict[str, Any]) -> Any:
        stated = schema
        schema = self._resolve(schema)
        kinds = schema.get("type", "object")
        if "null" in kinds or {"type": "null"} in stated.get("anyOf", ()):
            return None
        if "enum" in schema:
            return schema["enum"][0]
        if kinds == "string":
            return "2026-01-01T00:00:00Z" if schema.get("format") == "date-time" else "-"
        plain = {"integer": 0, "number": 0, "boolean": False, "array": []}
        return plain[kinds] if kinds in plain else self._complete(schema, {})


def _pattern(operation: str) -> re.Pattern[str]:
    def group(found: re.Match[str]) -> str:
        return f"(?P<{found[1]}>{'.+' if found[1] in GREEDY else '[^/]+'})"

    parts: Iterable[str] = (re.escape(part) for part in re.split(r"(\{\w+\})", operation))
    return re.compile(re.sub(r"\\\{(\w+)\\\}", group, "".join(parts)))


def _may_be(schema: dict[str, Any], value: Any) -> bool:
    if not isinstance(value, dict):
        return value is None
    kinds = schema.get("properties", {}).get("type", {}).get("enum")
    return "properties" in schema and (kinds is None or value.get("type") in kinds)


def _typed(value: str) -> Any:
    if value in ("true", "false"):
        return value == "true"
    return int(value) if value.isdecimal() else value
