"""ecosystem.yaml: read fast and judged at once, edited byte for byte.

| file | |
|---|---|
| `document.py` | the file, read: records, warnings, or every problem in it |
| `tree.py` `places.py` `values.py` | YAML nodes, where a thing stands in them, what it says |
| `checks.py` `wording.py` | what is wrong, in words |
| `writeback.py` | what a run achieved, written back |
| `editing.py` `splices.py` `saving.py` `file_lock.py` | an edit: decided, spliced, compared, saved, alone |
| `scan.py` `first_file.py` | `coord init` |
| `schema.py` | the JSON Schema |
"""
