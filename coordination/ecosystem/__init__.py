"""Reading, validating and editing ecosystem.yaml. An edit changes only the bytes that it must.

| module | content |
|---|---|
| `document.py` `parsing.py` | reading the file: its records and warnings, or every problem in it |
| `cache.py` `outline.py` | the parsed content of large files; the lines of each record |
| `layout.py` | records by section of the file; fields that name other records |
| `checks.py` `wording.py` | checks across records; messages for validation errors |
| `writeback.py` | results of a run, written into the file |
| `editing.py` `changes.py` | one edit: collected, applied and saved atomically, under a lock |
| `piecewise.py` | an edit of a few records of a large file |
| `journal.py` `record_events.py` | every edit of the file, in order; the events of one |
| `edit/` | text edits in the style of the surrounding text |
| `yaml_text/` | YAML text: nodes, values, positions, lines |
| `first_file.py` | the file that `coord init` writes |
| `schema.py` | the JSON Schema |
"""
