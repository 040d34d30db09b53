"""A file that is wrong: every problem at once, each with its line, its place, and words for people."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from coordination import models
from coordination.ecosystem.diagnostics import RECORDS
from coordination.ecosystem.document import parse
from coordination.ecosystem.schema import json_schema
from coordination.errors import InvalidFile, Problem
from coordination.models import Ecosystem, Record
from coordination.text import PATTERNS

JARGON = re.compile(
    r"Input should|valid string|tuple|discriminator|NoneType|pydantic|constrained|Value error|dict\b"
)


def problems(text: str | bytes) -> tuple[Problem, ...]:
    raw = text.encode() if isinstance(text, str) else text
    with pytest.raises(InvalidFile) as caught:
        parse(raw, Path("ecosystem.yaml"))
    assert "coord validate" in caught.value.hint
    assert not JARGON.search(caught.value.message)
    return caught.value.problems


def todo(line: str) -> str:
    return f"coordination:\n  todos:\n    - id: TODO-1\n      task: t\n      repo: r\n      {line}\n"


TODO_LINES = [
    ("statuss: pending", "unknown field", "status"),
    ("depends_on: [A]", "unknown field", "blocked_by"),
    ("zzz: 1", "unknown field; known here: id, task", ""),
    ("status: Complete", "must be one of pending, in_progress, blocked, completed, cancelled", "completed"),
    ("workspace: in_place", "must be one of worktree, in-place", "in-place"),
    ("priority: 1", "must be one of critical, high", ""),
    ("plan: 12", 'needs text; YAML reads this as a number, so put it in quotes: "12"', ""),
    ("assignee: no", 'YAML reads this as true or false, so put it in quotes: "no"', ""),
    ("assignee: 12:30:45", 'YAML reads this as a number, so put it in quotes: "12:30:45"', ""),
    ("assignee: 2026-01-31", 'YAML reads this as a date, so put it in quotes: "2026-01-31"', ""),
    ("assignee: 1.10", 'so put it in quotes: "1.10"', ""),
    ("assignee: [a]", "needs text", ""),
    ("assignee: ''", "must not be empty", ""),
    ("plan: a b", "may hold letters, digits", ""),
    ("labels: x", "needs a list: [x]", ""),
    ("labels: {a: b}", "needs a list", ""),
    ("labels: [1]", 'put it in quotes: "1"', ""),
    ("resources: gpu", "needs a list: [gpu]", ""),
    ("resources: {gpu: 2}", "needs a list", ""),
    ("resources: [5]", "needs the name of a resource, or a mapping like {name: gpu, amount: 2}", ""),
    ("resources: [[gpu]]", "needs the name of a resource", ""),
    ("resources: [a b]", "may hold letters, digits", ""),
    ("resources: [{amount: 2}]", "is missing; it is required", ""),
    ("resources: [gpu, {name: gpu, amount: 2}]", "names gpu twice; name it once with the whole amount", ""),
    ("estimated_hours: 0", "must be more than 0", ""),
    ("estimated_hours: yes", "needs a number", ""),
    ("estimated_hours: .inf", "needs a number that is not infinite", ""),
    ("estimated_hours: '2'", "needs a number", ""),
    ("estimated_hours: 1.0e+308", "must be at most 1000000", ""),  # the sum of two would be infinite
    ("actual_hours: 1.0e+308", "must be at most 1000000", ""),
    ("actual_hours: -1", "must be at least 0", ""),
    ('action: "a\\0b"', "contains a null character, which no program can be given; remove it", ""),
    ('action: {type: shell, run: ["a", "b\\0"]}', "contains a null character", ""),
    ('env: {A: "b\\0"}', "contains a null character", ""),
    ('env: {A_KEY: "b\\0"}', "contains a null character", ""),
    ("timeout: soon", "needs a duration like 90s", ""),
    ("timeout: 0", "must be more than 0", ""),
    ("timeout: .inf", "a duration cannot be that long", ""),
    ("timeout: 999999999999d", "a duration cannot be that long", ""),
    ("timeout: yes", "a duration is a number of seconds", ""),
    ("created: yesterday", "needs a date like 2026-01-31", ""),
    ("created: 2026", "a date is written like 2026-01-31", ""),
    ("created: 2026-13-45", "there is no such date", ""),
    ("retry: 3", "needs a mapping with fields", ""),
    ("retry: {attempts: 0}", "must be at least 1", ""),
    ("retry: {attempts: 1.5}", "needs a whole number", ""),
    ("retry: {tries: 1}", "unknown field; known here: attempts, strategy, delay", ""),
    ("retry: {strategy: expo}", "must be one of immediate, fixed, linear, exponential, fibonacci", ""),
    ("retry: {jitter: ful}", "must be one of none, full", "full"),
    ("retry: {retry_on: 75}", "needs a list: [75]", ""),
    ("retry: {retry_on: [75, time]}",
        "needs an exit code, the word timeout, or a mapping like {output: REGEX}", ""),
    ("retry: {stop_on: [yes]}", "needs an exit code, the word timeout", ""),
    ("retry: {stop_on: [0]}", "must be at least 1", ""),
    ("retry: {stop_on: [256]}", "must be at most 255", ""),
    ("retry: {stop_on: [{output: 'a('}]}",
        "is not a valid regular expression: missing ), unterminated subpattern", ""),
    ("retry: {stop_on: [{output: 7}]}", 'put it in quotes: "7"', ""),
    ("retry: {stop_on: [{output: a, outpt: b}]}", "unknown field", "output"),
    ("env: {A: yes}", "needs text or a number; YAML reads this as true or false", ""),
    ("env: {A_KEY: yes}", "needs text or a number; its value is hidden, because the name marks a secret", ""),
    ("env: {1A: x}", "is not the name of a variable", ""),
    ("env: [A]", "needs a mapping of names to values", ""),
    ("action: {run: x}", "needs a 'type', one of shell, python, agent, manual", ""),
    ("action: {type: bash, run: x}", "must be one of shell, python, agent, manual", ""),
    ("action: {type: shel, run: x}", "must be one of shell", "shell"),
    ("action: {type: shell}", "is missing", ""),
    ("action: {type: shell, cmd: x, run: y}", "unknown field", "run"),
    ("action: {type: python, call: foo}", "must be written like package.module:function", ""),
    ("action: 5", "needs a command, or a mapping with a 'type'", ""),
    ("action: ''", "must not be empty", ""),
    ("action: []", "must not be empty", ""),
    ("action: [make, 1]", 'put it in quotes: "1"', ""),
    ("cache: x", 'needs true, or a mapping like {inputs: ["build/**"], ttl: 7d}', ""),
    ("cache: {input: [a]}", "unknown field", "inputs"),
    ("cache: {inputs: a}", "needs a list", ""),
    ("cache: {inputs: [a, /etc/passwd]}",
        "must be a path or a glob inside the repository, relative to its folder", ""),
    ("cache: {inputs: [a/../../b]}", "must be a path or a glob inside the repository", ""),
    ("cache: {inputs: [.git/config]}", "names git's own folder", ""),
    ("cache: {inputs: [a], ttl: soon}", "needs a duration like 90s", ""),
    ("cache: {ttl: 0s}", "must be more than 0", ""),
    ("gate: x", "needs true, or a mapping like {timeout: 24h, on_timeout: reject}", ""),
    ("compensate: {type: manual}", "must be one of shell, python, agent", ""),
    ("priority: !urgent high", "the tag !urgent is not understood", ""),
    ("task: again", "'task' is written twice (first on line 4)", ""),
    ("? [a]\n      : b", "a name cannot be a list", ""),
    ("<<: 5", "'<<' takes a mapping", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message", "suggestion"), TODO_LINES, ids=[line for line, _, _ in TODO_LINES]
)
def test_a_wrong_field_is_one_problem_with_its_line_and_what_is_wanted(
    line: str, message: str, suggestion: str
):
    (problem,) = problems(todo(line))

    assert message in problem.message
    assert problem.suggestion == suggestion
    assert problem.line == 6
    assert problem.where.startswith("coordination.todos[0]")
    assert problem.where.endswith("(TODO-1)")


NULL = '"a\\0b"'
WITH_NULL = {
    "repos[0].path (r)": f"repos: [{{name: r, path: {NULL}}}]",
    "repos[0].url (r)": f"repos: [{{name: r, url: {NULL}}}]",
    "repos[0].branch (r)": f"repos: [{{name: r, branch: {NULL}}}]",
    "coordination.plans[0].title (P)": f"coordination: {{plans: [{{id: P, title: {NULL}}}]}}",
    "coordination.plans[0].milestones[0].name (M)":
        f"coordination: {{plans: [{{id: P, title: p, milestones: [{{id: M, name: {NULL}}}]}}]}}",
    "coordination.todos[0].acceptance_criteria[0].text (T)":
        "coordination: {todos: [{id: T, task: t, repo: r, acceptance_criteria: "
        f"[{{text: {NULL}, check: x}}]}}]}}",
    "coordination.todos[0].task (T)": f"coordination: {{todos: [{{id: T, task: {NULL}, repo: r}}]}}",
    "coordination.waves[0].title (W)": f"coordination: {{waves: [{{id: W, title: {NULL}, order: [P]}}]}}",
    "coordination.services[0].env.A (s)":
        f"coordination: {{services: [{{name: s, repo: r, command: x, env: {{A: {NULL}}}}}]}}",
    "coordination.services[0].env.a\0b (s)":
        f"coordination: {{services: [{{name: s, repo: r, command: x, env: {{{NULL}: x}}}}]}}",
    "coordination.templates[0].plan.title (t)":
        f"coordination: {{templates: [{{name: t, plan: {{title: {NULL}}}, steps: [{{id: s, task: t}}]}}]}}",
    "coordination.templates[0].steps[0].task (s)":
        f"coordination: {{templates: [{{name: t, plan: {{title: t}}, steps: [{{id: s, task: {NULL}}}]}}]}}",
    "coordination.templates[0].steps[0].env.A (s)":
        "coordination: {templates: [{name: t, plan: {title: t}, "
        f"steps: [{{id: s, task: t, env: {{A: {NULL}}}}}]}}]}}",
}  # fmt: skip


@pytest.mark.parametrize(("where", "text"), WITH_NULL.items(), ids=WITH_NULL)
def test_a_null_character_is_refused_in_every_text_that_a_program_or_a_commit_gets(where: str, text: str):
    (problem,) = problems(text)

    assert problem.where == where
    assert "contains a null character, which no program can be given; remove it" in problem.message


@pytest.mark.parametrize("name", ["", "A=B"])
def test_a_name_that_no_variable_of_a_service_can_have_is_refused(name: str):
    (problem,) = problems(
        f'coordination: {{services: [{{name: s, repo: r, command: x, env: {{"{name}": x}}}}]}}'
    )

    assert "is not the name of a variable" in problem.message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("action: {type: manual}", "cannot be used with the actions manual and noop"),
        ("workspace: in-place", "cannot be used with workspace: in-place"),
        ("compensate: ./undo", "cannot be used with compensate"),
    ],
)
def test_a_cache_is_refused_where_a_result_cannot_be_restored(line: str, words: str):
    (problem,) = problems(todo(f"{line}\n      cache: true"))

    assert words in problem.message
    assert "remove" in problem.message
    assert (problem.line, problem.where) == (7, "coordination.todos[0].cache (TODO-1)")


def test_a_long_id_is_shortened_in_its_place() -> None:
    (problem,) = problems(f"coordination:\n  plans:\n    - {{id: {'P' * 5000}, title: p}}\n")

    assert "must not be longer than 100 characters" in problem.message
    assert len(str(problem)) < 300


def test_a_surrogate_in_an_escape_is_explained() -> None:
    (problem,) = problems('x-note: "\\ud83c\\udf89"\n')

    assert "write the character itself" in problem.message


TODO_1 = "coordination.todos[0]"
OTHER_PLACES = [
    ("repos: []\n<<: 5", 2, "<<", "'<<' takes a mapping"),
    ("repos:\n  - name: a\n    <<: [{x-own: !other 5}, 7]", 3, "repos[0].<<[1] (a)", "'<<' takes a mapping"),
    ("repos:\n  - {name: a b}", 2, "repos[0].name (a b)", "may hold letters"),
    ("repos:\n  - {name: a, slots: yes}", 2, "repos[0].slots (a)", "needs a whole number"),
    ("repos:\n  - {name: a, slots: 65}", 2, "repos[0].slots (a)", "must be at most 64"),
    ("repos:\n  - name: a\n    branch: 1.10", 3, "repos[0].branch (a)", '"1.10"'),
    ("repos:\n  - just text", 2, "repos[0]", "needs a mapping with fields"),
    ("repos: {name: a}", 1, "repos", "needs a list"),
    ("repos:\n- path: x", 2, "repos[0].name", "is missing"),
    ("repos:\n- path: x\n  name:", 3, "repos[0].name", "is missing"),
    ("resources: {name: a}", 1, "resources", "needs a list"),
    ("resources: [gpu]", 1, "resources[0]", "needs a mapping with fields"),
    ("resources:\n- type: api", 2, "resources[0].name", "is missing"),
    ("resources:\n- name: a b", 2, "resources[0].name (a b)", "may hold letters"),
    ("resources:\n- name: a\n  capacity: 0", 3, "resources[0].capacity (a)", "must be at least 1"),
    ("resources:\n- name: a\n  capacity: yes", 3, "resources[0].capacity (a)", "needs a whole number"),
    ("resources:\n- {name: a,\n  capacity: 1000000001}", 3, "resources[0].capacity (a)",
        "at most 1,000,000,000"),
    ("resources:\n- name: a\n  amount: 2", 3, "resources[0].amount (a)", "known here: name, type, capacity"),
    ("resources:\n- {name: a}\n- {name: a}", 3, "resources[1].name (a)", "a second time (first on line 2)"),
    (todo("resources: [{name: gpu, amount: 0}]"), 6, f"{TODO_1}.resources[0].amount (gpu)",
        "must be at least 1"),
    (todo("resources: [{name: gpu, amount: 1.5}]"), 6, f"{TODO_1}.resources[0].amount (gpu)",
        "needs a whole number"),
    (todo("resources: [{name: gpu, amuont: 2}]"), 6, f"{TODO_1}.resources[0].amuont (gpu)", "unknown field"),
    ("settings: {namespace: 1}", 1, "settings.namespace", "needs text"),
    ("settings:\n  lease_ttl: soon", 2, "settings.lease_ttl", "needs a duration"),
    ("settings:\n  appendfsync: always!", 2, "settings.appendfsync", "must be one of everysec, always"),
    ("settings: 5", 1, "settings", "needs a mapping"),
    ("coordination: []", 1, "coordination", "needs a mapping"),
    ("coordination:\n  plans:\n    - {id: P, title: p,\n       on_failure: undo}", 4,
        "coordination.plans[0].on_failure (P)", "must be one of halt, continue, rollback"),
    ("coordination:\n  plans:\n    - {id: P, title: p, milestones: [{id: M, name: n}, {id: M, name: n}]}", 3,
        "coordination.plans[0].milestones[1].id (M)", "is given a second time (first on line 3)"),
    ("coordination:\n  issues: [{id: X, title: t}]\n  todos: [{id: X, task: t, repo: r}]", 3,
        "coordination.todos[0].id (X)", "is given a second time (first on line 2)"),
    ("repos:\n- {name: a}\n- {name: a}", 3, "repos[1].name (a)", "is given a second time (first on line 2)"),
    ("- a", 1, "the file", "needs a mapping at the top"),
    ("just text", 1, "the file", "needs a mapping at the top"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "where", "message"), OTHER_PLACES, ids=[c[0][:40] for c in OTHER_PLACES]
)
def test_a_problem_says_where_it_stands(text: str, line: int, where: str, message: str):
    (problem,) = problems(text)

    assert (problem.line, problem.where) == (line, where)
    assert message in problem.message


SYNTAX = [
    ("a: b: c", 1, "a ':' with a space after it is not allowed here"),
    ("\tkey: x", 1, "indents with spaces, never tabs"),
    ("repos:\n  - name: @x", 2, "text that begins with %, @ or ` needs quotes"),
    ('a: "x\nb: c\n', 3, "the quote that opens on line 1 is never closed"),
    ("a: [1, 2\nb: c", 2, "the '[' on line 1 is not closed"),
    ("a: {b: c", 2, "the '{' on line 1 is not closed"),
    ("a: *x", 1, "a '*' refers to an '&' name that does not exist"),
    ("a:\n  b: 1\n c: 2", 3, "does not fit the mapping that begins on line 1"),
    ("- a\nb: c", 2, "does not fit the list that begins on line 1"),
    ("a: - b", 1, "a list cannot begin here"),
    ('a: "\\q"', 1, "a backslash in double quotes means an escape"),
    ("a: 1\n---\nb: 2", 2, "a second document begins here"),
    ("a: &x 1\nb: &x 2", 2, "is given a second time here"),
    ("a: |\n\tb", 2, "there is a tab where YAML requires spaces"),
    ("é: 1\na: \x07", 2, "the control character 0x07 is not allowed"),
    ("%YAML 3.0\n---\na: b", 1, "found incompatible YAML document"),
    (b"a: b\nb: \xe9", 2, "the file is not UTF-8 (byte 0xe9 here)"),
    ("a: b".encode("utf-16"), 0, "the file is UTF-16"),
    ("", 0, "is empty"),
    ("# only words\n", 0, "is empty"),
    ("~", 0, "is empty"),
    ("[" * 100_000, 0, "more than 100 levels deep"),
    ("- " * 100_000, 0, "more than 100 levels deep"),
    ("repos: &x [*x]", 0, "references expand to far more than the file contains"),
    ("settings:\n  a: " + "1" * 5000, 2, "there is no such number"),
]


@pytest.mark.parametrize(("text", "line", "message"), SYNTAX, ids=[repr(c[0][:24]) for c in SYNTAX])
def test_what_is_no_yaml_is_said_in_words(text: str | bytes, line: int, message: str):
    found = problems(text)

    assert found[0].line == line
    assert message in found[0].message


def test_a_bomb_of_aliases_is_refused_at_once():
    lines = [f"  a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 10) + "]" for i in range(1, 30)]

    (problem,) = problems("\n".join(["settings:", "  a0: &a0 [x]", *lines]))

    assert "expand to far more than the file contains" in problem.message


def test_all_problems_are_told_at_once_in_the_order_of_the_file():
    text = """\
settings: {namspace: x}
repos:
  - {name: r}
  - {name: r}
coordination:
  issues:
    - {id: A, title: 1, title: 2}
  plans:
    - {id: A, title: p, status: actve}
  todos:
    - {task: t, gate: x, created: 2026-02-30}
    - {id: B, task: t, repo: r, action: [1]}
"""

    found = problems(text)

    assert [p.line for p in found] == sorted(p.line for p in found)
    assert {(p.line, p.where) for p in found} == {
        (1, "settings.namspace"),
        (4, "repos[1].name (r)"),
        (7, "coordination.issues[0].title (A)"),
        (9, "coordination.plans[0].status (A)"),
        (9, "coordination.plans[0].id (A)"),
        (11, "coordination.todos[0].created"),
        (11, "coordination.todos[0].id"),
        (11, "coordination.todos[0].repo"),
        (11, "coordination.todos[0].gate"),
        (12, "coordination.todos[1].action[0] (B)"),
    }
    assert len(found) == 10


def test_the_value_of_an_unknown_setting_is_not_shown_because_it_may_be_a_password():
    (problem,) = problems("settings: {redis_ur: 'redis://:secret@host'}")

    assert "secret" not in str(problem)
    assert problem.suggestion == "redis_url"


def test_a_long_value_is_cut():
    (problem,) = problems(todo("status: " + "x" * 500))

    assert len(problem.value) == 60


def test_every_record_of_the_format_can_name_its_fields():
    def sections(model: type[BaseModel], path: str = "") -> dict[str, type[BaseModel]]:
        found = {path: model}
        for name, field in model.model_fields.items():
            for record in re.findall(r"models\.\w+\.(\w+)", repr(field.annotation)):
                inner = getattr(models, record)
                if isinstance(inner, type) and issubclass(inner, Record) and not record.endswith("Action"):
                    found |= sections(inner, f"{path}.{name}" if path else name)
        return found

    assert sections(Ecosystem) == {path: model for path, model in RECORDS.items() if path != "settings"}


def test_every_pattern_of_the_format_has_words():
    found = set(re.findall(r'"pattern": "(.*?)"', json.dumps(json_schema())))

    assert {pattern.replace("\\\\", "\\") for pattern in found} <= set(PATTERNS)
