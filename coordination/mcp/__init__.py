"""coord for AI agents: an MCP server whose tools are the library's deeds. Needs the extra `[mcp]`.

| file | |
|---|---|
| `server.py` | the server: all tools, resources, the prompt |
| `declaring.py` | from a function over an office to a tool |
| `refusals.py` | our errors, and arguments that are off, in words that an agent can act on |
| `office.py` | the ecosystem that is served: opened late, read anew, runs seen through |
| `followers.py` | runs whose end is written into the file |
| `tools/` | one function per tool, a file per kind of record |
| `words.py` `answers.py` `excerpt.py` | arguments that several tools take; answers beyond the records; a piece of a log |
| `resources.py` `prompts.py` | the file, a run, a log; how a change is planned |
| `serving.py` `access.py` | over stdio or HTTP, until told to stop; who may come in |
"""

import os

os.environ["FASTMCP_ENV_FILE"] = os.devnull  # FastMCP would read the `.env` of whatever folder a client starts us in
