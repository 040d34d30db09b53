#!/usr/bin/env python3
"""An agent that plays a script: it reads a prompt, changes files, and prints the records of Claude Code.

It needs neither login nor network. Its first change of `units` is wrong, so that a test sends it back; in
`text` it asks a person.
"""

import json
import os
import re
import sys
from pathlib import Path

PROPOSAL = {
    "title": "The report ends with a total",
    "todos": [
        {
            "key": "total",
            "repo": "units",
            "task": "Add up quantities",
            "description": "total(quantities) returns their sum; an empty list has none.",
            "paths": ["src/**", "tests/**"],
        },
        {
            "key": "foot",
            "repo": "text",
            "task": "Set the last row of a table apart",
            "description": "table(..., foot=True) draws a line above the last row.",
            "paths": ["src/**", "tests/**"],
        },
        {
            "key": "report",
            "repo": "report",
            "task": "End the report with a total",
            "description": "The last row has the sum of all periods.",
            "acceptance_criteria": ["people find the total at once"],
            "blocked_by": ["total", "foot"],
            "paths": ["src/**", "tests/**"],
        },
    ],
}
WRONG = "\n\ndef total(quantities):\n    return sum(each.amount for each in quantities)\n"
RIGHT = """\n\ndef total(quantities: list[Quantity]) -> Quantity:
    \"\"\"The sum. Raises ValueError where there is none.\"\"\"
    if not quantities:
        raise ValueError("nothing to add up")
    first, *others = quantities
    return sum(others, first)\n"""
TOTAL_TEST = """

class TotalTest(unittest.TestCase):
    def test_adds_up(self):
        self.assertEqual(total([parse("3 l"), parse("2 l")]), parse("5 l"))


if __name__ == "__main__":"""
FOOT = """    rule = ["-" * each for each in widths]
    lines = [_line(row, aligns, widths) for row in (cells[0], rule, *cells[1:])]
    if foot:
        lines.insert(-1, _line(["SIGN" * each for each in widths], aligns, widths))
"""
FOOT_TEST = """    def test_may_set_the_last_row_apart(self):
        lines = table([("meter",), ("gas",), ("sum",)], (Align.LEFT,), foot=True).splitlines()
        self.assertEqual(lines[-2:], ["SIGNSIGNSIGNSIGNSIGN", "sum"])


class ShortenTest(unittest.TestCase):"""


def edit(name, *changes):
    """Replace texts in a file, each of which must be there once."""
    path = Path(name)
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        if text.count(old) != 1:
            sys.exit(f"{name} is not as the script expects it: {old!r}")
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    say({"type": "tool_use", "name": "Edit", "input": {"file_path": name}})


def add_total(prompt):
    source, there = "src/meter_units/quantity.py", "total(" in Path("src/meter_units/quantity.py").read_text()
    if there:
        edit(source, (WRONG, RIGHT))
        return "A total is a quantity now, with its unit."
    edit(source, ("\n\ndef parse(", WRONG + "\n\ndef parse("))
    edit(
        "src/meter_units/__init__.py",
        ("Quantity, Unit, parse\n", "Quantity, Unit, parse, total\n"),
        ('"parse"]', '"parse", "total"]'),
    )
    edit(
        "tests/test_quantity.py",
        ("Quantity, Unit, parse\n", "Quantity, Unit, parse, total\n"),
        ('\n\nif __name__ == "__main__":', TOTAL_TEST),
    )
    return "I have added total()."


def set_apart(prompt):
    answers = re.findall(r"(?m)^\s*([=-])\s*$", prompt)
    if not answers:
        return "QUESTION: which sign draws the line above the last row, - or = ?"
    sign = answers[-1]
    edit(
        "src/meter_text/table.py",
        ("width: Optional[int] = None) -> str:\n    \"\"\"Lay", "width: Optional[int] = None, foot=False) -> str:\n    \"\"\"Lay"),
        ("no cell is wider than `width`.", "no cell is wider than `width`. A foot is set apart."),
        (FOOT.split("    if foot")[0], FOOT.replace("SIGN", sign)),
    )
    edit("tests/test_table.py", ("\n\nclass ShortenTest(unittest.TestCase):", "\n" + FOOT_TEST.replace("SIGN", sign)))
    return f"A foot is set apart by {sign}."


def end_with_total(prompt):
    edit(
        "src/meter_report/usage.py",
        ("from meter_units import Quantity\n", "from meter_units import Quantity, total\n"),
        ("    columns = 3", "    if used:\n        rows.append(_total(list(used.values()), price))\n    columns = 3"),
        ("aligns[:columns])", "aligns[:columns], foot=bool(used))\n\n\ndef _total(used: list[Quantity], price: Optional[float]) -> tuple[str, ...]:\n    whole = total(used)\n    cost = \"\" if price is None else f\"{whole.amount * price:.2f}\"\n    return (\"total\", f\"{whole.amount:,.1f}\", whole.unit.value, cost)"),
    )
    edit(
        "tests/test_usage.py",
        ('                "2026-03  1,100.0  kWh",\n', '                "2026-03  1,100.0  kWh",\n                "=======  =======  ====",\n                "total    1,190.5  kWh",\n'),
        ('"2026-03  1,100.0  kWh   550.00"', '"total    1,190.5  kWh   595.25"'),
    )
    return "The report ends with a total."


def propose(prompt):
    Path(os.environ["COORD_OUTPUT"]).write_text(json.dumps(PROPOSAL), encoding="utf-8")
    return "I propose three todos, in two steps."


WORK = {
    "src/meter_units": add_total,
    "src/meter_text": set_apart,
    "src/meter_report": end_with_total,
}


def print_record(**record):
    print(json.dumps({"session_id": SESSION, **record}), flush=True)


def say(block):
    message = {"role": "assistant", "model": "script", "content": [block]}
    print_record(type="assistant", message=message)


def main():
    prompt = sys.stdin.read()
    print_record(type="system", subtype="init", model="script", claude_code_version="0.0.0")
    is_planning = '"blocked_by"' in prompt and '"key"' in prompt
    work = propose if is_planning else next(deed for folder, deed in WORK.items() if Path(folder).is_dir())
    text = work(prompt)
    say({"type": "text", "text": text})
    print_record(
        type="result",
        subtype="success",
        is_error=False,
        num_turns=3,
        result=text,
        total_cost_usd=0.02,
        usage={"input_tokens": len(prompt) // 4, "output_tokens": len(text)},
    )


if __name__ == "__main__":
    OPTIONS = dict(zip(sys.argv, sys.argv[1:]))
    SESSION = OPTIONS.get("--resume") or OPTIONS.get("--session-id", "")
    main()
