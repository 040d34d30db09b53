"""Options that several commands have, and the conversion of their values.

| module | content |
|---|---|
| `record_input.py` | the options of a record's fields; records from a file; questions |
| `values.py` | options that several commands have; from their text to a value |
"""
