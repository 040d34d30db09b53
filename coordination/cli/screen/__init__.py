"""What people see. Nothing here knows a command.

| file | |
|---|---|
| `shown.py` `templates.py` `output.py` | for reading, as JSON, or a line for each by a template |
| `times.py` | moments in the zone of whoever looks |
| `tables.py` `blocks.py` | tables, pages, and what a state looks like |
"""
