"""Messages over WebSocket, for recipients that have no Redis: browsers, agents elsewhere. Needs the extra `[web]`."""
