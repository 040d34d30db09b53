"""What people say: options that several commands have, and how what is typed becomes a value.

| file | |
|---|---|
| `fields.py` `filling.py` `values.py` | the fields of a record, for `create-*` and `update-*` |
| `prompts.py` `records_file.py` | records that are asked for, or written in a file |
| `filters.py` `narrowing.py` | lists and plans, narrowed |
| `choices.py` `listening.py` | one of a few words; an address to listen on |
"""
