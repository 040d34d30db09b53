"""The dashboard: pages for people, live without reload, over the facade. Needs the extra `[web]`.

The server renders whole pages as HTML. When there are new events, htmx requests the page again and merges the
difference. Every page and every action also works without scripts. Nothing is loaded from other sites.

| module | content |
|---|---|
| `access.py` | tokens of people, sessions, the limit of guesses |
| `snapshots.py` | answers of the facade, shared by pages and kept while Redis is away; news for open pages |
| `pages.py` | requests and answers of views, their forms and headers; templates and their filters |
| `logs.py` | the log of a todo: attempts, numbered lines, colours, the first error |
| `charts.py` | charts of figures over time |
| `app.py` | routes, sign-in, errors; the process |
| `views/` | a function per page, and the actions |

`templates` has a template per page; `static` one style sheet, one small script, and htmx with its licence.
"""
