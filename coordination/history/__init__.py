"""History: the events of an ecosystem in an SQLite database, for search, trends and audit.

* `store.py` keeps events, and how far each of their sources was read, in one transaction.
* `collect.py` reads the journals of the file and the stream of events of Redis into it, and forwards the
  journal to that stream. `events.py` is the record of an entry.
* `memory.py` has all operations on the history of one file.
* `search.py` finds events by words, ranked, by filters, and by meaning where an embedding command is set.
* `trends.py` computes what changed per day, of records and of runs, and the direction against the days
  before.
"""
