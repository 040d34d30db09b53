"""Errors of servers of several versions, as one message each."""

from __future__ import annotations

import pytest
import redis

from coordination.backend.error_messages import explain
from coordination.errors import Unusable

DENIED = {
    "Valkey 9, in a step": (
        "ACL failure in script: User bob has no permissions to run the 'set' command script: "
        "on @user_script:26."
    ),
    "Redis 7.0, in a step": (
        "The user executing the script can't run this command or subcommand script: "
        "468ab5505867b5a630fd9307685791dae16b3efa, on @user_script:245."
    ),
    "Redis 7.0, a key in a step": (
        "The user executing the script can't access at least one of the keys mentioned in the command "
        "arguments script: 468ab5505867b5a630fd9307685791dae16b3efa, on @user_script:17."
    ),
    "any, outside of steps": "NOPERM User bob has no permissions to run the 'blpop' command",
}


@pytest.mark.parametrize("words", DENIED.values(), ids=DENIED)
def test_what_a_user_may_not_do_is_said_with_whom_it_concerns(words: str):
    told = explain(redis.ResponseError(words), "redis://bob:secret@anvil:6379/0")

    assert isinstance(told, Unusable)
    assert "does not allow user bob" in told.message
    assert "coord acl --role" in told.hint
    assert "secret" not in str(told)
