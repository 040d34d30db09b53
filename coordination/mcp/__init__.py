"""coord for AI agents: an MCP server whose tools are the operations of `coordination.api`. Needs the extra
`[mcp]`.

| module | content |
|---|---|
| `server.py` | the server: tools, resources, prompt; standard input or HTTP with a token |
| `selection.py` | the tools that a server offers: core, all, or those of some nouns |
| `session.py` | the ecosystem that is served, and the runs that are followed to their end |
| `operation_tool.py` | from a declared operation to a tool |
| `declaration.py` | from a function of a session to a tool |
| `tools/` | the tools |
| `answers.py` | results beyond the records |
| `middleware.py` | errors as agents read them; tools that the server's identity may use |
"""

import os

# FastMCP would read the `.env` of the folder in which a client starts the server.
os.environ["FASTMCP_ENV_FILE"] = os.devnull
