"""Call one function with the JSON on standard input, and write its result to COORD_OUTPUT.

Runs in the todo's process, with whatever Python the worktree has: it imports nothing of coord and keeps to
old syntax.
"""

import importlib
import json
import os
import sys
from typing import Any


def main(target: str) -> None:
    arguments = json.load(sys.stdin)
    see_the_folder_first()
    module, _, names = target.partition(":")
    function: Any = importlib.import_module(module)
    for name in names.split("."):
        function = getattr(function, name)
    result = function(**arguments)
    if result is not None:
        hand_over(target, result)


def see_the_folder_first() -> None:
    """Import modules from the current folder, and not from this file's: it has a `checks.py`."""
    own = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    sys.path[:] = [os.getcwd(), *(path for path in sys.path if path != own)]  # noqa: PTH109


def hand_over(target: str, result: Any) -> None:
    try:
        text = json.dumps(result)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{target} returned what is not JSON ({error}); return dicts, lists, text, numbers"
        ) from error
    with open(os.environ["COORD_OUTPUT"], "w") as output:  # noqa: PTH123
        output.write(text)


if __name__ == "__main__":
    main(sys.argv[1])
