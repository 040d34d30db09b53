"""Remove what ended runs have left, and look for results in the base branches."""
