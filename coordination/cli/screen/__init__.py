"""Output. Nothing here knows a command.

| module | content |
|---|---|
| `output.py` `templates.py` | JSON, records, lines by a template, picture files |
| `tables.py` `blocks.py` | tables; parts of a page, styles of states, times |
"""
