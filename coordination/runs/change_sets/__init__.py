"""Change sets: their records, read and changed; results of quality checks."""
