"""Following runs on a terminal or in a log, and their results."""
