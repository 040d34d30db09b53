"""Issues of the file and of the forges of their repositories, kept equal.

The file keeps, for each issue, the id at the forge and a digest of each field as both sides had it last
(`forge:`). It survives a lost Redis, and every clone of the file knows it.
"""
