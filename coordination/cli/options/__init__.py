"""Options that several commands have, and the conversion of their values.

| module | content |
|---|---|
| `fields.py` | the options of each kind of record |
| `record_input.py` | fields of a record from options or a file |
| `values.py` | from the text of an option to a value |
| `prompts.py` | questions for missing fields |
| `filters.py` | filters of lists, parts of a plan, addresses |
"""
