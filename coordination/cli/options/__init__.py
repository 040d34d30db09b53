"""Options that several commands have, and the conversion of their values.

| module | content |
|---|---|
| `fields.py` | the options of each kind of record |
| `record_input.py` | fields of a record from options, a file or questions |
| `values.py` | options that several commands have; from their text to a value |
"""
