"""Redis connections, key names, Lua steps and the Celery client app."""
