"""Programs of agents: how each is called, and what its output says. `attempt/agent_rounds.py` starts them.

| module | content |
|---|---|
| `programs.py` | the programs by their kinds |
| `program.py` | what each kind tells: command line, variables, sessions, the reader of its records |
| `claude.py` `codex.py` `gemini.py` `opencode.py` `copilot.py` `command.py` | one kind each |
| `stream.py` | output as records and lines of text, in bounded memory |
| `fields.py` | fields of records that may lie; lines of the transcript |
| `judge.py` | how a round ended |
| `scope.py` | the paths that an agent may change |
| `memory.py` | what this machine remembers of an agent's work, from one attempt to the next |
"""
