"""The coordination desk: every record, asked for and changed."""
