"""The tools, a file per kind of record. Each is one function over one operation of the library or its manager."""
