"""The contents of runs by their verified signatures."""
