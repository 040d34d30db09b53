"""coord for people who script it; `from coordination import Coord`. The same deeds as the commands do.

| file | |
|---|---|
| `coord.py` | one ecosystem with its rooms |
| `runs.py` | runs: started, waited for, steered |
| `retrying.py` | an action of a script's own, tried again behind a breaker |
| `done.py` | that a todo is done: said to the run that waits for it, else to the file |
| `post.py` | notes to repositories, agents and people, read and acknowledged |
| `events.py` | what happens in a run, by name, and who wants to know |
"""
