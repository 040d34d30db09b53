"""Output. Nothing here knows a command."""
