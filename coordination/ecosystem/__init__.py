"""ecosystem.yaml: read fast and judged at once, edited byte for byte.

| file | |
|---|---|
| `document.py` `parsing.py` | the file, found and read: records, warnings, or every problem in it |
| `cache.py` `outline.py` | what a large file said last time, and where each record of it stands |
| `layout.py` `naming.py` | which record stands where; which fields name other records |
| `checks.py` `wording.py` | what is wrong, in words |
| `writeback.py` | what a run achieved, written back |
| `editing.py` `changes.py` | an edit: decided, made, saved as a whole or not at all, by one writer at a time |
| `piecewise.py` `revision.py` | how it is made and proved: a few records read alone, or the whole file |
| `edit/` | the few characters that change, in the hand of what stands there |
| `yaml_text/` | YAML text: nodes, values, places, lines |
| `scan.py` `first_file.py` | `coord init` |
| `schema.py` `presenting.py` | the JSON Schema; the file as it is shown to others, without secrets |
"""
