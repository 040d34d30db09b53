"""Runs a todo's command under a guard, and ends what is left of it."""
