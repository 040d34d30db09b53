"""The records of ecosystem.yaml, queried and edited.

| file | |
|---|---|
| `manager.py` | `CoordinationManager`: all of it behind one door; each deed is one edit of the file |
| `reading.py` | its half that only reads |
| `kinds.py` `records.py` | the kinds of records; what the desk answers with |
| `queries.py` | filters and order |
| `states.py` | which status may follow which |
| `judging.py` `references.py` | what people ask for: its values, and the names in it |
| `ties.py` | who waits for whom |
| `sheet.py` `finishing.py` `milestones.py` `deletion.py` | the deeds |
| `readiness.py` | after each: no cycle, and what became ready |
| `executing.py` | what runs do with todos at present |
| `status.py` `completion.py` `checking.py` | where things stand, whether a plan may count as done, dependencies checked |
"""
