"""Issues of the file and of the forges of their repositories, kept equal.

| module | content |
|---|---|
| `records.py` | options, and the records that commands show |
| `rules.py` | the forge to which an issue belongs, and whose value of a field goes where; pure |
| `sync.py` | synchronises the issues of one repository |

The file keeps, for each issue, the id at the forge and a digest of each field as both sides had it last
(`forge:`). It survives a lost Redis, and every clone of the file knows it.
"""
