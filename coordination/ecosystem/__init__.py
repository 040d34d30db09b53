"""ecosystem.yaml: read fast and judged at once, edited byte for byte.

| file | |
|---|---|
| `document.py` `parsing.py` | the file, found and read: records, warnings, or every problem in it |
| `cache.py` `outline.py` | what a large file said last time, and where each record of it stands |
| `tree.py` `places.py` `values.py` | YAML nodes, where a thing stands in them, what it says |
| `checks.py` `wording.py` | what is wrong, in words |
| `writeback.py` | what a run achieved, written back |
| `editing.py` `changes.py` | an edit: decided, made, saved |
| `piecewise.py` `revision.py` | how it is made and proved: a few records read alone, or the whole file |
| `amendments.py` `records.py` `lists.py` | the few characters that change: for a field, a record, the items of a list |
| `writing.py` `rendering.py` `neighbours.py` `sections.py` | in whose hand a value, a record, a section is written, and how YAML says it |
| `lines.py` `regions.py` `flow.py` `splices.py` | where things end in the text, what goes with them, what stands between brackets |
| `saving.py` `file_lock.py` | a file replaced as a whole or not at all, by one writer at a time |
| `scan.py` `first_file.py` | `coord init` |
| `schema.py` | the JSON Schema |
"""
