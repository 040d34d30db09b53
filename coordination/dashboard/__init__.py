"""The dashboard: pages for people, live without reload, over the facade. Needs the extra `[web]`.

A page is HTML that the server makes whole; htmx asks for it again when the event stream has moved, and merges
the difference. Without a script every page and every action still works. Nothing is loaded from elsewhere.

| module | content |
|---|---|
| `access.py` | tokens of people, sessions, the limit of guesses |
| `snapshots.py` | answers of the facade, shared and kept for the time without Redis; news for open pages |
| `pages.py` | requests and answers of views, their forms and headers; templates and their filters |
| `charts.py` | charts of figures over time |
| `app.py` | routes, sign-in, errors; the process |
| `views/` | a function per page, and the actions |

`templates` has a template per page; `static` one style sheet, one small script, and htmx with its licence.
"""
