"""ecosystem.yaml: read fast and judged at once, edited byte for byte.

| file | |
|---|---|
| `document.py` `parsing.py` | the file, found and read: records, warnings, or every problem in it |
| `cache.py` `outline.py` | what a large file said last time, and where each record of it stands |
| `layout.py` `naming.py` | which record stands where; which fields name other records |
| `checks.py` `wording.py` | what is wrong, in words |
| `writeback.py` `outcome.py` | what a run achieved, written back |
| `editing.py` `changes.py` | an edit: decided, made, saved |
| `piecewise.py` `revision.py` | how it is made and proved: a few records read alone, or the whole file |
| `amending/` | the few characters that change, in the hand of what stands there |
| `text/` | YAML text: nodes, values, places, lines |
| `saving.py` `file_lock.py` | a file replaced as a whole or not at all, by one writer at a time |
| `scan.py` `first_file.py` | `coord init` |
| `schema.py` | the JSON Schema |
"""
