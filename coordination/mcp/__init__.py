"""coord for AI agents: an MCP server whose tools are the library's operations. Needs the extra `[mcp]`.

| file | |
|---|---|
| `server.py` | the server: all tools, resources, the prompt |
| `declaring.py` | from a function over a session to a tool |
| `errors.py` | our errors, and arguments that are off, in words that an agent can act on |
| `session.py` | the ecosystem that is served: opened late, read anew; runs whose end is written into the file |
| `tools/` | one function per tool, a file per kind of record |
| `answers.py` | answers beyond the records |
| `resources.py` `prompts.py` | the file, a run, a log; how a change is planned |
| `access.py` | who may come in over HTTP |
"""

import os

os.environ["FASTMCP_ENV_FILE"] = os.devnull  # FastMCP would read the `.env` of whatever folder a client starts us in
