"""Every Lua step compiles: with what its folder shares it must stay below Lua's 200 local variables, and below its 60 upvalues."""

from __future__ import annotations

from importlib.resources import files

import pytest
import redis

from coordination.backend.scripts import source

FOLDER = files("coordination.backend") / "lua"
STEPS = [
    f"{room.name}/{step.name.removesuffix('.lua')}"
    for room in sorted(FOLDER.iterdir(), key=lambda room: room.name)
    for step in sorted(room.iterdir(), key=lambda step: step.name)
    if step.name.endswith(".lua") and not step.name.startswith("_")
]


@pytest.mark.parametrize("step", STEPS)
def test_a_step_compiles_with_what_its_folder_shares(step: str, client: redis.Redis) -> None:
    assert len(client.script_load(source(step))) == 40
