"""The records of ecosystem.yaml, queried and edited.

| file | |
|---|---|
| `manager.py` | `CoordinationManager`: all of it behind one door; each deed is one edit of the file |
| `reading.py` | its half that only reads |
| `kinds.py` `records.py` | the kinds of records; what the desk answers with |
| `queries.py` | filters and order |
| `states.py` | which status may follow which |
| `judging.py` `references.py` `ids.py` | what people ask for: its values, the names in it, its own name |
| `ties.py` `links.py` `weight.py` | who waits for whom, what stands behind that, and how much |
| `sheet.py` `finishing.py` `milestones.py` `deletion.py` | the deeds |
| `order.py` `readiness.py` | after each: no cycle, and what became ready |
| `status.py` `completion.py` `checking.py` | where things stand, whether a plan may count as done, dependencies checked |
"""
