"""The commands about what the file declares: issues, todos, plans, dependencies; what they print and write."""
