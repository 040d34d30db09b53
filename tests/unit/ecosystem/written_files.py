"""Files as people might have written them: every style that YAML has, comments everywhere, each with a
number.
"""

from __future__ import annotations

from itertools import count

from hypothesis import strategies as st

from coordination.models import Todo

ORDER = list(Todo.model_fields)

texts = st.one_of(
    st.sampled_from(
        ["do it", "yes", "12", "1.5e3", "2026-01-02", "a: b", "a #b", "- x", "it's", 'a "b"', "", " a ", "#"]
    ),
    st.sampled_from(
        [
            "one\ntwo\n",
            "one\n\n  two\n\n",
            "\na",
            "tab\there",
            "Größe 😀",
            "\x85",
            "a\\b",
            "null",
            "[x",
            "*a",
            "%",
        ]
    ),
    st.text(alphabet="ab é:#-\n'\"\\,[]{}&*!|>%@`?😀\t0.", max_size=12),
)
numbers = st.integers(-3, 10**6) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
words = st.lists(st.sampled_from(["a", "b", "it's", "c d", "yes", "x: y", "é", "1"]), max_size=4)
sentences = st.lists(
    st.sampled_from(["all of it works well", "no: one # complains at all", "a", "b\nc"]), max_size=3
)
mappings = st.dictionaries(
    st.sampled_from(["type", "run", "on", "A b", "é", "1"]), texts | numbers | words, max_size=3
)
values = st.one_of(texts, numbers, words, sentences, mappings, st.lists(mappings, max_size=2))
records = st.dictionaries(st.sampled_from(ORDER[1:]), values.filter(lambda v: v is not None), max_size=5)


class Writer:
    """Writes one file, choice by choice."""

    def __init__(self, draw: st.DrawFn, shares: bool) -> None:
        self.draw = draw
        self.shares = shares
        self.anchors: list[str] = []
        self.numbers = count()

    def choose(self, *options: str) -> str:
        return self.draw(st.sampled_from(options))

    def chance(self, one_in: int = 2) -> bool:
        return self.draw(st.integers(1, one_in)) == one_in

    def comment(self) -> str:
        """A comment at the end of a line, or none."""
        return (
            f"{self.choose(' ', '  ')}# c{next(self.numbers)}{self.choose('', ': x', ' ] }', ' é 😀')}"
            if self.chance()
            else ""
        )

    def between(self, *columns: int) -> str:
        """Lines between two things: blank, or a comment of their own."""
        lines = ""
        while self.chance(3):
            if self.chance():
                lines += self.choose("\n", "\n", "  \n")
            else:
                lines += " " * self.draw(st.sampled_from(columns)) + f"# c{next(self.numbers)}\n"
        return lines

    def scalar(self) -> str:
        if self.shares and self.chance(4):
            if self.anchors and self.chance():
                return f"*{self.draw(st.sampled_from(self.anchors))} "
            self.anchors.append(f"x{len(self.anchors)}")
            return f"&{self.anchors[-1]} " + self.choose("a", "'it''s'", "12")
        return self.choose(
            "a", "pending", '"q: # \\u00e9"', "'it''s'", "a  b", "2026-01-01", "12", "é 😀", "~", "''", "a#b"
        )

    def flow_list(self, column: int) -> str:
        items = [self.scalar() for _ in range(self.draw(st.integers(0, 3)))]
        if items and self.chance(3):
            pad = " " * column
            rows = "".join(f"{pad}{item},{self.comment()}\n{self.between(0, column)}" for item in items)
            if self.chance():
                rows = (
                    rows.rpartition(",")[0] + rows.rpartition(",")[2]
                    if "#" not in rows.rpartition(",")[2]
                    else rows
                )
            return f"[{self.comment()}\n{rows}{' ' * max(column - 2, 1)}]"
        inside = self.choose(", ", ",", " , ", ",  ").join(items)
        return self.choose("[{}]", "[ {} ]", "[{},]").format(inside) if items else self.choose("[]", "[ ]")

    def value(self, column: int, depth: int = 0) -> str:
        """Return the text after `name:`, to the end of its last line, in a block mapping whose names stand at
        the column.
        """
        inner = column + self.draw(st.integers(1, 4))
        pad = " " * inner
        kind = self.draw(st.integers(0, 13))
        if kind == 0:
            return self.comment() + "\n"
        if kind == 1:
            first, last = self.choose("one", "12"), self.choose("", f"\n\n{pad}three")
            return f" {first}\n{pad}two{last}{self.comment()}\n"
        if kind == 2:
            return f' "one\n{pad}two \\\n{pad}# three"{self.comment()}\n'
        if kind == 3:
            return f"{self.comment()}\n{pad}{self.scalar()}{self.comment()}\n"
        if kind in (4, 5):
            lines = "".join(self.choose(f"{pad}one\n", "\n", f"{pad}# no comment\n") for _ in range(3))
            return f" {self.choose('|', '>', '|-', '>-', '|+', '>+')}{self.comment()}\n{pad}x\n{lines}"
        if kind == 6:
            return f" {self.flow_list(inner)}{self.comment()}\n"
        if kind in (7, 8):
            at = self.draw(st.sampled_from([column, inner]))
            gap = self.choose(" ", "   ")
            items = "".join(
                f"{self.between(0, at, at + 2)}{' ' * at}-{gap}{self.scalar()}{self.comment()}\n"
                for _ in range(self.draw(st.integers(1, 3)))
            )
            return self.comment() + "\n" + items
        if kind == 9:
            return f" {{{self.choose('', ' ')}a: {self.scalar()}, b: [x]}}{self.comment()}\n"
        if kind == 10 and depth == 0:
            rows = "".join(f"{self.between(0, inner)}{pad}{k}:{self.value(inner, 1)}" for k in ("a", "b"))
            return self.comment() + "\n" + rows
        return f"{self.choose(' ', '   ')}{self.scalar()}{self.comment()}\n"

    def names(self) -> list[str]:
        return ["id", *self.draw(st.lists(st.sampled_from(ORDER[1:]), unique=True, max_size=5))]

    def block_item(self, number: int, column: int, gap: str) -> str:
        names = self.draw(st.permutations(self.names()))
        quote = self.choose("", "", "'", '"')
        inner = column + 1 + len(gap)
        rows = [
            f"{quote}{name}{quote}:"
            + (f" T{number}{self.comment()}\n" if name == "id" else self.value(inner))
            for name in names
        ]
        first = " " * column + "-" + gap + rows[0]
        return first + "".join(
            self.between(0, column, inner, inner + 2) + " " * inner + row for row in rows[1:]
        )

    def flow_value(self, column: int) -> str:
        kind = self.draw(st.integers(0, 2))
        return self.scalar() if kind == 0 else self.flow_list(column) if kind == 1 else "{a: b}"

    def flow_item(self, number: int, column: int) -> str:
        quote = self.choose("", '"')
        inner = column + 4
        fields = []
        for name in self.names():
            value = f"T{number}" if name == "id" else self.flow_value(inner + 2)
            fields.append(f"{quote}{name}{quote}: {value}")
        if self.chance(3):
            pad = " " * inner
            rows = "".join(f"{pad}{field},{self.comment()}\n{self.between(0, inner)}" for field in fields)
            return f"{{{self.comment()}\n{rows}{pad}}}"
        return "{" + self.choose(", ", f",\n{' ' * inner}", " ,").join(fields) + self.choose("}", " }")


@st.composite
def files(draw: st.DrawFn, shares: bool = False) -> str:
    """A file with todos in it, and other things around them; with anchors and aliases if it `shares`."""
    writer = Writer(draw, shares)
    step = draw(st.integers(1, 4))
    column = step + draw(st.sampled_from([0, 0, 1, 2, 4]))
    todos = ""
    gap = writer.choose(" ", " ", "   ")
    for number in range(draw(st.integers(1, 3))):
        if writer.chance(4):
            todos += f"{' ' * column}- {writer.flow_item(number, column)}{writer.comment()}\n"
        else:
            todos += writer.block_item(number, column, gap)
        todos += writer.between(0, step, column, column + 2)
    text = (
        f"{writer.choose('', '# head' + chr(10), '%YAML 1.1' + chr(10) + '---' + chr(10))}"
        f"repos: [{{name: r}}]{writer.comment()}\n"
        f"coordination:{writer.comment()}\n{writer.between(0, step)}"
        f"{' ' * step}todos:{writer.comment()}\n{writer.between(0, column)}{todos}"
    )
    if writer.chance():
        text += f"{' ' * step}plans: []{writer.comment()}\n"
    text = text.removesuffix("\n") if writer.chance(3) else text
    return text.replace("\n", writer.choose("\n", "\n", "\r\n"))
