"""Charts of pages: steps over time, and the graph of repositories, also of those that need each other."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from coordination.charts.pictures import repositories_picture, repositories_svg
from coordination.dashboard.charts import HEIGHT, WIDTH, steps
from coordination.models import Ecosystem

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_steps_go_from_the_first_time_to_the_end():
    todos = [(NOON, 4), (NOON + HOUR, 2), (NOON + 2 * HOUR, 0)]

    chart = str(steps(("todos <b>", todos), ("repositories", [(NOON, 2)]), until=NOON + 4 * HOUR))

    first, second = re.findall(r' d="([^"]+)"', chart)
    low = f"{HEIGHT - 20:.1f}"
    assert first == f"M0.0,8.0H{WIDTH / 4:.1f}V64.0H{WIDTH / 2:.1f}V{low}H{WIDTH}"
    assert second == f"M0.0,64.0H{WIDTH}"
    assert 'aria-label="4 to 0 todos &lt;b&gt;, 2 to 2 repositories"' in chart


def test_repositories_that_need_each_other_are_drawn_without_the_arrow_back():
    needs = {"b": "a", "a": "c", "c": "b", "d": "c", "lone": "lone"}
    dependencies = [
        {"id": f"DEP-{consumer}", "consumer": consumer, "provider": provider, "status": status}
        for status, (consumer, provider) in zip(
            ["unsatisfied", *["satisfied"] * 4], needs.items(), strict=True
        )
    ]
    todos = [{"id": "T-1", "task": "x", "repo": "c", "status": "completed"}]
    ecosystem = Ecosystem.model_validate(
        {
            "repos": [{"name": name, "path": name} for name in needs],
            "coordination": {"dependencies": dependencies, "todos": todos},
        }
    )

    drawn = repositories_picture(ecosystem)

    assert drawn.levels == [["a"], ["b"], ["c"], ["d"]]
    assert drawn.predecessors == {"b": ["a"], "a": [], "c": ["b"], "d": ["c"]}
    assert drawn.apart == ["lone"]
    assert {name: box.state for name, box in drawn.boxes.items()} == {
        "a": "pending", "b": "blocked", "c": "completed", "d": "pending", "lone": "pending",
    }  # fmt: skip
    assert repositories_svg(ecosystem).count("data-todo=") == 5


def test_an_empty_file_has_a_picture():
    assert "0 repositories" in repositories_svg(Ecosystem.model_validate({"repos": []}))
