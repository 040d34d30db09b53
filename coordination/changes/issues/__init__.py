"""Issues of the file and of the forges of their repositories, kept equal.

| module | content |
|---|---|
| `records.py` | options, and the records that commands show |
| `fields.py` | the fields of both sides, and which side's value goes where; pure |
| `homes.py` | the repository at whose forge an issue of the file is, or belongs |
| `sync.py` | synchronises the issues of one repository |

The file keeps, for each issue, the id at the forge and a digest of each field as both sides had it last
(`forge:`). It survives a lost Redis, and every clone of the file knows it.
"""
