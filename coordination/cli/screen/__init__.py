"""What people see. Nothing here knows a command.

| file | |
|---|---|
| `shown.py` `templates.py` `output.py` | for reading, as JSON, or a line for each by a template |
| `tables.py` `blocks.py` `colours.py` | tables, pages, and what a state looks like |
"""
