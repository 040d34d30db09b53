"""Redis: the client, the names of all keys, the Lua steps, and the server that coord starts by itself.

| module | content |
|---|---|
| `address.py` | the address of a Redis, checked, for redis-py and for Celery |
| `client.py` | connections by purpose, with their timeouts; errors translated |
| `keys.py` | the name of every key |
| `steps.py` | the declaration of each Lua step: keys, arguments, reply, flags |
| `library.py`, `lua/` | the steps as one library of Redis Functions, loaded into the server |
| `step_connection.py` | calls steps, through a client or over connections of its own |
| `embedded.py`, `daemon.py` | the Redis-compatible server that coord starts on this machine; its supervising process |
| `server_check.py` | checks that a server is fit: version, persistence, eviction, rights |
| `misplaced_keys.py` | sets aside keys of coord that hold a foreign type |
| `error_messages.py` | an error of Redis as fact, cause and next command |
| `failpoints.py` | makes calls to Redis fail where tests ask for it |
"""
