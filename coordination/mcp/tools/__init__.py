"""The tools, a file per kind of record. Each is one function over one deed of the library or its manager."""
