"""Reading, validating and editing ecosystem.yaml. An edit changes only the bytes that must change.

| module | content |
|---|---|
| `document.py` | finds and reads the file; caches its content |
| `parsing.py` | bytes to records and warnings, or to every problem; the lines of each record |
| `layout.py` | the type of the record at each location, its line and readable name |
| `diagnostics.py` | messages for validation errors; checks across records |
| `editing.py` `changes.py` | one edit: collected, applied and saved atomically, under a lock |
| `piecewise.py` | an edit of a few records of a large file |
| `writeback.py` | results of a run, written into the file |
| `journal.py` `record_events.py` | every edit of the file, in order; the events of one |
| `presentable.py` | the text without secrets |
| `first_file.py` | the file that `coord init` writes |
| `schema.py` | the JSON Schema |
| `yaml_text/` | YAML text: nodes, values, lines, and small edits |
"""
