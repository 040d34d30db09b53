"""Creates, changes and deletes records: each operation is one edit of the file.

| module | content |
|---|---|
| `transaction.py` | the records and references of one edit, checked before it is written |
| `mutations.py` `milestones.py` `deletion.py` | creating, changing and deleting records |
| `completing.py` | what a plan or milestone lacks, before an edit completes it |
| `validation.py` | checks of values |
| `readiness.py` | after each change: no cycle, and the records that became ready |
"""
