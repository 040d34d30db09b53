# What a todo of the harness does: it writes down in $LEDGER, a file that coord knows nothing of, that it begins and how it ends.
# Each line is one write to the end of the file, and on the disk before it goes on (5 ms for both; a Python takes 10).
# sh body.sh [undo-]: what the lines begin with. $LASTS: seconds in between. $FAILS: so many attempts fail. $HANGS: so many never end.
tell() {
  date "+$1 $COORD_RUN_ID $COORD_TODO_ID $COORD_ATTEMPT $COORD_FENCE %s%N" >> "$LEDGER" && sync -d "$LEDGER" || exit 70
}

tell "$1start"
if [ "$COORD_ATTEMPT" -le "${HANGS:-0}" ]; then exec sleep 300; fi
if [ "${LASTS:-0}" != 0 ]; then sleep "$LASTS"; fi
if [ "$1" = "" ] && [ "$COORD_ATTEMPT" -le "${FAILS:-0}" ]; then
  tell fail
  exit 1
fi
tell "$1end"
