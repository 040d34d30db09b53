"""Output. Nothing here knows a command.

| module | content |
|---|---|
| `output.py` | JSON, records, lines by a template, picture files |
| `pager.py` | the user's pager |
| `tables.py` | tables; parts of a page, styles of states |
"""
