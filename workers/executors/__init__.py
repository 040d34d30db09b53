"""From an action to a command: `commands.py` has one executor for each kind of action, `job.py` the records."""
