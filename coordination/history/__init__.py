"""History: the events of an ecosystem in an SQLite database, for search, trends and audit.

* `store.py` keeps events, and how far each of their sources was read, in one transaction.
* `collect.py` reads the journals of the file into it, `stream.py` the stream of events of Redis; it also
  forwards the journal to that stream. `events.py` is the record of an entry.
* `memory.py` has all operations on the history of one file.
* `search.py` finds events by words, ranked, and by filters; `meaning.py` adds a search by meaning.
* `trends.py` computes what changed per day, and the direction against the days before; `run_trends.py` the
  same of runs.
"""
