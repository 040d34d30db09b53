"""Write the pictures of docs/dashboard.md: the dashboard of a demo with more plans, in a real browser.

`make pictures` runs it. It needs Chromium (`make test-tools`).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright import sync_api

HERE = Path(__file__).parent
WIDTH, HIGHEST = 1180, 1300
PLANS = """
    - {id: PLAN-002, title: Ship the new report, status: active, target: 2026-11-30}
    - {id: PLAN-003, title: Try the importer, status: active}
"""
TODOS = """
    - {id: TODO-101, task: Prepare the data, repo: store, plan: PLAN-002, action: "echo reading; sleep 600"}
    - {id: TODO-102, task: Draw the report, repo: report, plan: PLAN-002, action: "echo drawn > drawn"}
    - {id: TODO-103, task: Publish it, repo: report, plan: PLAN-002, blocked_by: [TODO-101], action: "true"}
    - {id: TODO-104, task: Release after a look, repo: cli, plan: PLAN-002, gate: true, action: "true"}
    - {id: TODO-110, task: Fail loudly, repo: text, plan: PLAN-003, action: "echo no such file; exit 1"}
    - {id: TODO-111, task: Never starts, repo: text, plan: PLAN-003, blocked_by: [TODO-110], action: "true"}
"""
PAGES = {
    "now": "/",
    "run": "/run?run={run}",
    "todo": "/todo?run={run}&id=TODO-101",
    "change": "/change?plan=PLAN-001",
    "board": "/board",
    "record": "/record?id=ISSUE-001",
    "repositories": "/repositories",
    "fleet": "/fleet",
    "history": "/history",
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        demo = Path(folder, "demo")
        _coord(Path(folder), "demo", str(demo))
        try:
            _take(demo)
        finally:
            _coord(demo, "down")


def _take(demo: Path) -> None:
    _declare(demo / "ecosystem.yaml")
    _coord(demo, "up", "--detach", "--no-flower")
    _coord(demo, "sweep", "PLAN-003", fails=True)
    _coord(demo, "sweep", "PLAN-002", "--detach")
    run = json.loads(_coord(demo, "show-run", "last", "--json"))["run_id"]
    token = _coord(demo, "dashboard", "token", "add", "ann").split()[-1]
    url = _coord(demo, "open", "--print").strip()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 700})
        page.goto(url)
        page.wait_for_selector("#token:focus")
        page.keyboard.type(token)
        page.keyboard.press("Enter")
        page.wait_for_selector("h1:has-text('Now')")
        _until(lambda: "succeeded" in _coord(demo, "show-run", "last"))
        for name, path in PAGES.items():
            page.goto(url.rstrip("/") + path.format(run=run), wait_until="load")
            page.screenshot(path=HERE / f"dashboard-{name}.png", full_page=True, clip=_top_of(page))
        browser.close()


def _top_of(page: sync_api.Page) -> sync_api.FloatRect:
    """Return the upper part of a page, as far as a picture of it is worth reading."""
    height = page.evaluate("document.documentElement.scrollHeight")
    return {"x": 0, "y": 0, "width": WIDTH, "height": min(height, HIGHEST)}


def _declare(file: Path) -> None:
    """Add the plans and todos to the demo's file."""
    text = file.read_text()
    for section, rows in (("plans", PLANS), ("todos", TODOS)):
        (line,) = re.findall(rf"^  {section}:.*\n", text, re.MULTILINE)
        text = text.replace(line, line + rows.lstrip("\n"))
    file.write_text(text)


def _coord(folder: Path, *words: str, fails: bool = False) -> str:
    command = [str(Path(sys.executable).with_name("coord")), *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if (done.returncode != 0) is not fails:
        raise SystemExit(f"coord {' '.join(words)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def _until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.2)


if __name__ == "__main__":
    main()
