"""The coordination desk: every record, asked for and changed.

| file | |
|---|---|
| `manager.py` | `CoordinationManager`: all of it behind one door; each deed is one edit of the file |
| `kinds.py` `records.py` | the kinds of records; what the desk answers with |
| `queries.py` | filters and order |
| `states.py` | which status may follow which |
| `judging.py` `references.py` `ids.py` | what people ask for: its values, the names in it, its own name |
| `ties.py` `weight.py` | who waits for whom, and how much stands behind what |
| `sheet.py` `finishing.py` `milestones.py` `deletion.py` | the deeds |
| `order.py` `readiness.py` | after each: no cycle, and what became ready |
| `status.py` `completion.py` | where things stand, and whether a plan may count as done |
"""
