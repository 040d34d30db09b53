"""Events: what happened to runs, todos, locks, breakers and commands, in one stream for each namespace.

* `kinds.py` lists every kind of event, with one sentence each; the documentation is generated from it.
* `records.py` has the record of an event.
* `stream.py` writes, reads, follows and trims the stream.

The Lua step that makes a change writes its event, in `backend/lua/events.lua`, so each change has exactly
one, however often the step is repeated. A run also has a stream of its own (`runs/views/run_events.py`),
which ends with the run and contains the changes to ready and dispatched, too.

An entry is flat. Its fields `kind`, `subject`, `at` (ms), `run`, `actor`, `repos` (names with spaces between
them), `title` (text of people or programs: hostile) and `entry` (the same event in the run's own stream) are
reserved, and missing where they are empty; every other field is data of the kind. The id is the entry's place
in the stream; ids grow even when the server's clock is set back, and `at` then does not.

Kinds that are marked `asked` are counted only. They are written while somebody asks for them by name, into a
second stream, so that they never displace the others: see `EventStream.ask`.

The stream is bounded. A reader whose position was trimmed gets an event `events.gap`, and continues.
"""
