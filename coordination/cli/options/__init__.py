"""What people say: options that several commands have, and how what is typed becomes a value.

| file | |
|---|---|
| `fields.py` `filling.py` `values.py` | the fields of a record, for `create-*` and `update-*` |
| `prompts.py` `filling.py` | records that are asked for, or written in a file |
| `filters.py` | lists and plans, narrowed |
"""
