"""Write the extract of an official OpenAPI description that tests/forge checks itself and coord against.

    python -m tests.forge.openapi.extract github api.github.com.json > tests/forge/openapi/github.json
    python -m tests.forge.openapi.extract gitlab openapi_v2.yaml > tests/forge/openapi/gitlab.json
    python -m tests.forge.openapi.extract gitea swagger.v1.json > tests/forge/openapi/gitea.json

The first file is github/rest-api-description `descriptions/api.github.com` (MIT; npm: @octokit/openapi), the
second gitlabhq/gitlabhq `doc/api/openapi` (CC BY-SA 4.0), the third what a Forgejo server has at this address
(MIT; its source is templates/swagger/v1_json.tmpl). The extract takes facts only: paths, parameters,
required fields, types, enums. It has no prose, no examples, and no optional field of an answer that the test
forge does not send.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.forge.openapi.operations import ASKED, CORRECTED, DESCRIBED, KEPT, LISTS, UNDESCRIBED

Schema = dict[str, Any]
FACTS = (
    *(
        "type",
        "enum",
        "required",
        "items",
        "properties",
        "anyOf",
        "oneOf",
        "allOf",
        "not",
        "minimum",
        "maximum",
    ),
    *("minItems", "maxItems", "minLength", "maxLength", "additionalProperties", "nullable", "$ref", "format"),
)


class Extract:
    def __init__(self, dialect: str, text: bytes) -> None:
        self.dialect = dialect
        self.source = yaml.load(text, Loader=yaml.CSafeLoader)
        self.typed = "openapi" in self.source
        """False: Swagger 2, where `string` stands for each type that nobody declared."""
        self.schemas: dict[str, Schema] = {}

    def operations(self) -> dict[str, Schema]:
        found = {}
        for name in DESCRIBED[self.dialect]:
            method, path = name.split()
            prefix = "/api/v4" if self.dialect == "gitlab" else ""
            found[name] = self._operation(name, self.source["paths"][prefix + path][method.lower()])
        for name in re.findall(r"#/schemas/(\w+)", json.dumps(CORRECTED[self.dialect])):
            self._facts({"$ref": f"#/definitions/{name}"})
        return found | UNDESCRIBED.get(self.dialect, {})

    def _operation(self, name: str, stated: Schema) -> Schema:
        parameters = [self._resolve(one) for one in stated.get("parameters", [])]
        query = [one for one in parameters if one["in"] == "query"]
        bodies = [one["schema"] for one in parameters if one["in"] == "body"]
        if "requestBody" in stated:
            bodies = [stated["requestBody"]["content"]["application/json"]["schema"]]
        answers: Schema = {}
        for status, answer in stated["responses"].items():
            content = self._resolve(answer)
            content = content.get("content", {}).get("application/json", content)
            schema = content.get("schema")
            answers[status] = self._facts(schema) if schema and int(status) < 300 else None
            if name in LISTS and answers[status] and "items" not in answers[status]:
                answers[status] = {"type": "array", "items": answers[status]}
        return {
            "query": {one["name"]: self._facts(one.get("schema", one) | {"required": None}) for one in query},
            "body": self._closed(self._facts(bodies[0], request=True)) if bodies else None,
            "answers": answers,
        }

    def _resolve(self, node: Schema) -> Schema:
        if "$ref" in node:
            found = self.source
            for part in node["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            return found
        return node

    def _closed(self, schema: Schema) -> Schema:
        """Let an object have the known fields only."""
        is_open = "properties" in schema and "additionalProperties" not in schema
        return schema | {"additionalProperties": False} if is_open else schema

    def _facts(self, node: Schema, *, request: bool = False) -> Schema:
        if "$ref" in node:
            name = node["$ref"].rpartition("/")[2]
            if request:
                return self._facts(self._resolve(node), request=True)
            if name not in self.schemas:
                self.schemas[name] = {}
                self.schemas[name] = self._facts(self._resolve(node))
            return {"$ref": f"#/schemas/{name}"}
        facts = {k: self._fact(k, node, request=request) for k in FACTS if node.get(k) is not None}
        if "allOf" in facts:
            facts |= self._joined(facts.pop("allOf"))
        if not request:
            facts = self._closed(facts)
        if facts.pop("nullable", False):
            self._allow_null(facts)
        if not self.typed and not request:
            self._loosen(facts)
        if facts.get("format") not in (None, "date-time"):
            del facts["format"]
        return facts

    def _fact(self, key: str, node: Schema, *, request: bool) -> Any:
        stated = node[key]
        if key == "properties":
            kept = set(node.get("required") or ()) | KEPT[self.dialect]
            corrected = (ASKED if request else CORRECTED)[self.dialect]
            return {
                name: corrected.get(name) or self._facts(schema, request=request)
                for name, schema in stated.items()
                if request or name in kept
            }
        if key in ("anyOf", "oneOf", "allOf"):
            return [self._facts(one, request=request) for one in stated]
        if key in ("items", "not") or isinstance(stated, dict):
            return self._facts(stated, request=request)
        return stated

    def _allow_null(self, facts: Schema) -> None:
        if "type" in facts:
            facts["type"] = [facts["type"], "null"]
        if "enum" in facts and None not in facts["enum"]:
            facts["enum"] = [*facts["enum"], None]
        for key in ("anyOf", "oneOf"):
            if key in facts:
                facts[key].append({"type": "null"})

    def _joined(self, parts: list[Schema]) -> Schema:
        """Return one schema of an object for those that must all hold."""
        whole: Schema = {"type": "object", "properties": {}, "required": []}
        for part in parts:
            if "$ref" in part:
                part = self.schemas[part["$ref"].rpartition("/")[2]]
            whole["properties"] |= part.get("properties", {})
            whole["required"] += part.get("required", [])
        return whole

    def _loosen(self, facts: Schema) -> None:
        """Swagger 2 has no null, and its generator writes `string` where no type was declared."""
        kind = facts.get("type")
        if kind == "string" and "format" not in facts and "enum" not in facts:
            del facts["type"]
        elif isinstance(kind, str):
            facts["type"] = [kind, "null"]


def main(dialect: str, file: str) -> None:
    text = Path(file).read_bytes()
    extract = Extract(dialect, text)
    operations = extract.operations()
    parts: dict[str, Any] = {
        "source": {
            "title": extract.source["info"]["title"],
            "version": extract.source["info"]["version"],
            "sha256": hashlib.sha256(text).hexdigest(),
        }
    }
    lines = [f'"source": {json.dumps(parts["source"])}']
    for name, entries in (("operations", operations), ("schemas", extract.schemas)):
        rows = [f"{json.dumps(key)}: {json.dumps(entries[key], sort_keys=True)}" for key in sorted(entries)]
        lines.append(f'"{name}": {{\n' + ",\n".join(rows) + "\n}")
    sys.stdout.write("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
