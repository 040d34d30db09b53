"""The dashboard: pages for people, live without reload, over the facade. Needs the extra `[web]`.

A page is HTML that the server makes whole; htmx asks for it again when the event stream has moved, and merges
the difference. Without a script every page and every action still works. Nothing is loaded from elsewhere.

| module | content |
|---|---|
| `access.py` | tokens of people, sessions, the limit of guesses |
| `snapshots.py` | answers of the facade, shared by open pages and kept for the time without Redis |
| `live.py` | the stream that tells pages to renew themselves |
| `pages.py` | requests and answers of views; templates and their filters |
| `texts.py` | pages that were rendered, shared by those who may see the same |
| `charts.py` | charts of figures over time |
| `app.py` | routes, sign-in, headers, errors |
| `server.py` | the process |
| `views/` | a function per page, and the actions |

`templates` has a template per page; `static` one style sheet, one small script, and htmx with its licence.
"""
