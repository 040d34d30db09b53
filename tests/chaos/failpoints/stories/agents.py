"""Stories of an agent that plays a script: it is limited, corrects its work, asks a person."""

from __future__ import annotations

import json

from tests.chaos.failpoints.scene import Scene
from tests.chaos.failpoints.story import Act, Story
from tests.chaos.ledger import BODY

SCRIPT = f"""
prompt=$(cat)
mark="$LEDGER.$COORD_TODO_ID"
say() {{
  printf '{{"type":"result","subtype":"success","is_error":%s,"api_error_status":%s,"num_turns":1,' $1 $2
  printf '"result":"%s","usage":{{"input_tokens":10,"output_tokens":1}}}}\\n' "$3"
}}
case "$COORD_TODO_ID" in
LIMITED)
  if ! test -e "$mark"; then
    touch "$mark"
    printf '{{"type":"rate_limit_event","rate_limit_info":{{"status":"rejected","resetsAt":%d}}}}\\n' \\
      $(($(date +%s) + 1))
    say true 429 limited
    exit 1
  fi ;;
CORRECTED) if ! test -e half; then touch half; say false null half; exit; fi ;;
ASKS) case "$prompt" in *in-UTC*) ;; *) say false null 'QUESTION: in which zone?'; exit ;; esac ;;
esac
touch whole
sh {BODY} || exit
say false null done
"""
AGENT = {"name": "a", "kind": "claude", "command": ["sh", "-c", SCRIPT]}
BY_AGENT = {"action": {"type": "agent", "verify": ["test -e whole"]}}


def _asks(scene: Scene) -> bool:
    return "in which zone?" in str(scene.fact("ASKS", "waits_for"))


AGENTS = Story(
    name="agents",
    todos=[
        {"id": "LIMITED", "repo": "r", **BY_AGENT},
        {"id": "CORRECTED", "repo": "p", **BY_AGENT},
        {"id": "ASKS", "repo": "q", "blocked_by": ["CORRECTED"], **BY_AGENT},
    ],
    env={"COORD_AGENTS": json.dumps([AGENT]), "COORD_SANDBOX": "off"},
    acts=[Act(when=_asks, coord=("answer", "ASKS", "in-UTC"))],
)
