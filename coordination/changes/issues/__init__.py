"""Issues of the file and of the forges of their repositories, kept equal.

| module | content |
|---|---|
| `rules.py` | options and results; the forge of an issue, and which side's value of a field counts; pure |
| `sync.py` | synchronises the issues of one repository |

The file keeps, for each issue, the id at the forge and a digest of each field as both sides had it last
(`forge:`). It survives a lost Redis, and every clone of the file knows it.
"""
