"""Access to Redis: clients, key names, Lua steps, and the embedded server.

| module | content |
|---|---|
| `address.py` | parses and checks a Redis address; writes it for redis-py and for Celery |
| `client.py` | clients with timeouts by purpose; converts their errors |
| `bounded_parser.py` | answers of a server, limited in size and time |
| `keys.py` | the name of every key |
| `key_table.py` | the type, content and lifetime of every key; sets aside keys that hold a foreign type |
| `steps/` | the declaration of each Lua step: keys, typed arguments, typed reply, flags |
| `library.py`, `lua/` | the steps as one library of Redis Functions, loaded into the server |
| `step_connection.py` | calls steps through a redis-py client or over its own connections |
| `embedded.py` | the Redis-compatible server that coord starts on this machine |
| `daemon.py` | starts, finds and stops a detached process |
| `server_check.py` | checks that a server is fit: version, persistence, eviction, available commands |
| `error_messages.py` | converts an error of Redis to fact, cause and next command |
"""
