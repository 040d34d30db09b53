"""Run a todo's command under a guard, and end what is left of it."""
