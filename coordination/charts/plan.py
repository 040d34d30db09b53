"""A plan as text: as a tree for the terminal, as Mermaid, as dot, and as plain data for JSON. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

from coordination.charts.svg import FILLS
from coordination.models import Gate, Todo, TodoStatus
from coordination.planner.gates import is_milestone, needs_approval
from coordination.planner.graph import PlanGraph, count_by_status, state_of
from coordination.states import mark_of, tone_of, words_of
from coordination.terminal import CONTROLS
from coordination.text import counted, format_hours, listed

FILLED = tuple(status for status in TodoStatus if status is not TodoStatus.PENDING)
"""Statuses that have a colour in Mermaid and dot."""
Paint = Callable[[str, str], str]
"""Colours a line of the tree: its status and its text."""


def _unpainted(_status: str, line: str) -> str:
    return line


def _has_states(graph: PlanGraph) -> bool:
    """Return whether a todo has another status than pending, so that statuses are shown."""
    return any(state_of(graph, name) is not TodoStatus.PENDING for name in graph.todos)


def marked(graph: PlanGraph, name: str) -> str:
    """Return the name with the symbol of its status, unless all todos are pending."""
    return f"{mark_of(state_of(graph, name))} {name}" if _has_states(graph) and name in graph.todos else name


def status_counts(graph: PlanGraph) -> str:
    """Return the number of todos by status: `12 todos: 11 completed, 1 pending`."""
    by_status = count_by_status(graph)
    parts = ", ".join(f"{n} {words_of(status)}" for status, n in by_status.items())
    return f"{counted(sum(by_status.values()), 'todo')}: {parts}"


APPROVAL = "approval"
"""Text in place of the hours of a milestone."""
_UNSEEN = re.compile(f"[{CONTROLS}]+")
INDENT_SHOWN = 60
"""Longest indentation of the tree, cut on the left: a chain of 10,000 todos would otherwise make 100 MB of
text.
"""


def tree(graph: PlanGraph, paint: Paint = _unpainted) -> str:
    """Return the plan as a tree, each todo once, with its status where not all are pending.

    A todo hangs under the most urgent of its predecessors in the previous level, and names the others.
    """
    parts = [_head(graph)]
    if graph.todos:
        rows = dict(_tree_rows(graph))
        lines = zip(rows, _table(rows.values()), strict=True)
        parts.append("\n".join(paint(state_of(graph, name), line) for name, line in lines))
    if graph.blocked:
        parts.append("blocked todos:\n" + "\n".join(_blocked_lines(graph)))
    return "\n\n".join(parts)


def _head(graph: PlanGraph) -> str:
    title = f"{graph.plan.id}  {_line(graph.plan.title)}"
    if graph.nothing_to_do and not graph.todos:
        return f"{title}\nnothing to do: {graph.nothing_to_do}"
    if graph.todos and len(graph.finished) == len(graph.todos):
        return f"{title}\n{status_counts(graph)}"
    counts = f"{graph.size} in {counted(len(graph.levels), 'level')}"
    times = (
        f"{format_hours(graph.work_hours)} of work, {format_hours(graph.critical_hours)} on the "
        "critical path (*)"
    )
    lines = [title, f"{counts}, {times}, parallelism {graph.parallelism:.1f}"]
    if graph.finished:
        lines[1:] = [
            status_counts(graph),
            f"to do: {graph.size}, {times}, parallelism {graph.parallelism:.1f}",
        ]
    if graph.assumed or graph.learned:
        learned = [f"{len(graph.learned)} learned from earlier runs"] if graph.learned else []
        assumed = [f"{format_hours(graph.assumed_hours)} assumed{f' for {graph.assumed}' if learned else ''}"]
        lines.append(f"~ no estimate: {', '.join(learned + (assumed if graph.assumed else []))}")
    return "\n".join(lines)


def _table(rows: Iterable[tuple[str, str, str, str]]) -> Iterable[str]:
    """Return a line for each row, with aligned columns; the last column is not padded."""
    cells = list(rows)
    widths = [max(len(row[i]) for row in cells) for i in range(3)]
    return (f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:<{widths[2]}}  {d}" for a, b, c, d in cells)


def _tree_rows(graph: PlanGraph) -> Iterable[tuple[str, tuple[str, str, str, str]]]:
    parents = _parents(graph)
    critical, redundant = set(graph.critical_path), set(graph.redundant)
    for name, branch in _branches(graph.order, parents):
        todo = graph.todos[name]
        implied = {before for before in graph.predecessors[name] if (before, name) in redundant}
        others = [n for n in graph.predecessors[name] if n not in implied and n != parents[name]]
        also = f"  (also after {listed(others)})" if others else ""
        mark = "*" if name in critical else " "
        needs = f"  (needs {listed([str(need) for need in todo.resources])})" if todo.resources else ""
        first = "  (after an approval)" if needs_approval(todo) and not is_milestone(todo) else ""
        cells = (f"{mark} {branch}{marked(graph, name)}", _estimate(graph, name), todo.repo)
        yield name, (*cells, f"{_line(todo.task)}{also}{needs}{first}")


def _branches(names: Iterable[str], parents: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Yield each name with its branch lines, top down, without recursion because a plan may be 10,000 todos
    deep.
    """
    children: dict[str, list[str]] = {}
    for name in names:
        children.setdefault(parents.get(name, ""), []).append(name)
    ahead = [(name, "", "") for name in reversed(children.get("", ()))]
    while ahead:
        name, branch, below = ahead.pop()
        yield name, branch
        for i, child in enumerate(reversed(children.get(name, ()))):
            ahead.append(
                (child, _cut(below + ("├─ " if i else "└─ ")), _cut(below + ("│  " if i else "   ")))
            )


def _parents(graph: PlanGraph) -> dict[str, str]:
    """Return the parent of each todo in the tree: a predecessor in the previous level, which all but the
    first level have.
    """
    parents = {}
    for name, predecessors in graph.predecessors.items():
        near = [before for before in predecessors if graph.depth[before] == graph.depth[name] - 1]
        if near:
            parents[name] = min(near, key=graph.order.__getitem__)
    return parents


def _cut(prefix: str) -> str:
    return prefix if len(prefix) <= INDENT_SHOWN else "…" + prefix[1 - INDENT_SHOWN :]


def _estimate(graph: PlanGraph, name: str) -> str:
    if is_milestone(graph.todos[name]):
        return APPROVAL
    if name in graph.finished:
        return graph.todos[name].status.value
    assumed = "~" if graph.todos[name].estimated_hours is None else ""
    return assumed + format_hours(graph.hours[name])


def _blocked_lines(graph: PlanGraph) -> Iterable[str]:
    for name, reason in graph.blocked.items():
        todo = graph.blocked_todos[name]
        yield f"  {name}  {todo.repo}  {_line(todo.task)}\n      blocked by {reason}"


def _line(text: str) -> str:
    return " ".join(_UNSEEN.sub(" ", text).split())


def _by_repo(todos: Mapping[str, Todo]) -> dict[str, list[str]]:
    """Return the todos by repository, without milestones, which are in none."""
    repos: dict[str, list[str]] = {}
    for name, todo in todos.items():
        if not is_milestone(todo):
            repos.setdefault(todo.repo, []).append(name)
    return repos


def _milestones(todos: Mapping[str, Todo]) -> list[str]:
    return [name for name, todo in todos.items() if is_milestone(todo)]


def mermaid(graph: PlanGraph) -> str:
    """Return a Mermaid flowchart: a box per repository, hexagons for milestones, thick edges on the critical
    path, dotted implied ones.
    """
    todos = {**graph.todos, **graph.blocked_todos}
    alias = {name: f"t{i}" for i, name in enumerate(todos)}
    lines = ["flowchart LR"]
    for i, (repo, names) in enumerate(_by_repo(todos).items()):
        lines.append(f'  subgraph r{i}["{_mermaid_text(repo)}"]')
        lines += (f'    {alias[name]}["{_mermaid_label(graph, name, todos[name])}"]' for name in names)
        lines.append("  end")
    lines += (
        f'  {alias[name]}{{{{"{_mermaid_label(graph, name, todos[name])}"}}}}' for name in _milestones(todos)
    )
    arrows = _edge_marks(graph, critical="==>", redundant="-.->", other="-->")
    lines += (f"  {alias[before]} {arrow} {alias[name]}" for (before, name), arrow in arrows.items())
    lines += _mermaid_class("critical", "stroke-width:3px", [alias[name] for name in graph.critical_path])
    lines += _mermaid_class(
        "blocked", "stroke-dasharray:4 4,opacity:0.6", [alias[name] for name in graph.blocked]
    )
    for status in FILLED:
        members = [alias[name] for name in graph.todos if state_of(graph, name) is status]
        fill, _ = FILLS[tone_of(status)]
        lines += _mermaid_class(f"is_{status.value}", f"fill:{fill},color:#111827", members)
    return "\n".join(lines)


def _mermaid_class(name: str, style: str, members: list[str]) -> list[str]:
    return [f"  classDef {name} {style}", f"  class {','.join(members)} {name}"] if members else []


def _mermaid_label(graph: PlanGraph, name: str, todo: Todo) -> str:
    last = f"blocked by {graph.blocked[name]}" if name in graph.blocked else _estimate(graph, name)
    return "<br/>".join(_mermaid_text(part) for part in (marked(graph, name), todo.task, last))


def _mermaid_text(text: str) -> str:
    """Return the text with characters that Mermaid would interpret as entities, because it has no backslash
    escapes.
    """
    return "".join(f"#{ord(c)};" if c in '#"<>&`\\' else c for c in _line(text))


def dot(graph: PlanGraph) -> str:
    """Return a Graphviz graph: a cluster per repository, bold for the critical path, dotted for implied
    edges.
    """
    todos = {**graph.todos, **graph.blocked_todos}
    critical = set(graph.critical_path)
    lines = [f"digraph {_dot_text(graph.plan.id)} {{", "  rankdir=LR;", "  node [shape=box];"]
    for i, (repo, names) in enumerate(_by_repo(todos).items()):
        lines += [f"  subgraph cluster_{i} {{", f"    label={_dot_text(repo)};"]
        lines += (f"    {_dot_node(graph, name, todos[name], name in critical)};" for name in names)
        lines.append("  }")
    lines += (f"  {_dot_node(graph, name, todos[name], name in critical)};" for name in _milestones(todos))
    styles = _edge_marks(graph, critical=" [style=bold]", redundant=" [style=dotted]", other="")
    lines += (
        f"  {_dot_text(before)} -> {_dot_text(name)}{style};" for (before, name), style in styles.items()
    )
    return "\n".join([*lines, "}"])


def _dot_node(graph: PlanGraph, name: str, todo: Todo, critical: bool) -> str:
    last = f"blocked by {graph.blocked[name]}" if name in graph.blocked else _estimate(graph, name)
    style = ", style=dashed" if name in graph.blocked else ", style=bold" if critical else ""
    if name not in graph.blocked and (status := state_of(graph, name)) in FILLED:
        fill, _ = FILLS[tone_of(status)]
        style = f', style="{"bold," * critical}filled", fillcolor="{fill}"'
    style = f", shape=hexagon{style}" if is_milestone(todo) else style
    return f"{_dot_text(name)} [label={_dot_text(marked(graph, name), todo.task, last)}{style}]"


def _dot_text(*lines: str) -> str:
    """Return one quoted string; backslashes are doubled, because dot reads those in labels as commands."""
    return '"' + "\\n".join(_line(line).replace("\\", "\\\\").replace('"', '\\"') for line in lines) + '"'


def _edge_marks(graph: PlanGraph, *, critical: str, redundant: str, other: str) -> dict[tuple[str, str], str]:
    marks = dict.fromkeys(graph.edges, other)
    marks |= dict.fromkeys(graph.redundant, redundant)
    return marks | dict.fromkeys(pairwise(graph.critical_path), critical)


def plan_data(graph: PlanGraph, drawn: PlanGraph | None = None) -> dict[str, Any]:
    """Return the graph as plain data for `--format json`; its names are stable. `drawn`: the graph with its
    finished todos.
    """
    drawn = drawn or graph
    return {
        "plan": {"id": graph.plan.id, "title": graph.plan.title},
        "nothing_to_do": graph.nothing_to_do,
        "todos": [_json_todo(graph, name, todo) for name, todo in graph.todos.items()],
        "edges": [list(edge) for edge in graph.edges],
        "redundant": [list(edge) for edge in graph.redundant],
        "levels": [list(level) for level in graph.levels],
        "critical_path": list(graph.critical_path),
        "blocked": [
            {"id": name, "repo": todo.repo, "task": todo.task, "blocked_by": graph.blocked[name]}
            for name, todo in graph.blocked_todos.items()
        ],
        "unreachable": list(graph.unreachable),
        "left_out": list(graph.left_out),
        "finished": [_json_finished(drawn, name) for name in drawn.todos if name in drawn.finished],
        "states": {name: state_of(drawn, name).value for name in drawn.todos},
        "figures": _json_figures(graph),
    }


def _json_finished(graph: PlanGraph, name: str) -> dict[str, Any]:
    todo = graph.todos[name]
    return {
        "id": name,
        "repo": todo.repo,
        "task": todo.task,
        "status": todo.status.value,
        "actual_hours": todo.actual_hours,
        "predecessors": list(graph.predecessors[name]),
        "successors": list(graph.successors[name]),
    }


def _json_todo(graph: PlanGraph, name: str, todo: Todo) -> dict[str, Any]:
    return {
        "id": name,
        "repo": todo.repo,
        "task": todo.task,
        "status": todo.status.value,
        "priority": todo.priority.value,
        "level": graph.depth[name],
        "order": graph.order[name],
        "hours": graph.hours[name],
        "estimated": todo.estimated_hours is not None,
        "learned": name in graph.learned,
        "remaining_hours": graph.rank[name],
        "predecessors": list(graph.predecessors[name]),
        "resources": [need.model_dump() for need in todo.resources],
        "milestone": is_milestone(todo),
        "gate": todo.gate and _json_gate(todo.gate),
    }


def _json_gate(gate: Gate) -> dict[str, Any]:
    return {
        "timeout_s": gate.timeout.total_seconds() if gate.timeout else None,
        "on_timeout": gate.on_timeout.value,
    }


def _json_figures(graph: PlanGraph) -> dict[str, Any]:
    return {
        "todos": len(graph.todos),
        "edges": sum(map(len, graph.successors.values())),
        "levels": len(graph.levels),
        "width": graph.width,
        "work_hours": graph.work_hours,
        "critical_hours": graph.critical_hours,
        "parallelism": graph.parallelism,
        "learned": len(graph.learned),
        "assumed": graph.assumed,
        "assumed_hours": graph.assumed_hours,
        "done": graph.done,
        "cancelled": graph.cancelled,
    }
