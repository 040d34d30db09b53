"""Forges: pull requests and issues at GitHub, GitLab and Gitea behind one interface.

| module | content |
|---|---|
| `forge.py` | the interface: the calls that every forge answers for one repository |
| `issues.py` | its part about issues, for each forge |
| `feedback.py` | its part about a repair, for each forge: logs of jobs, threads of reviews, replies |
| `models.py` | records of requests, issues, reviews, checks and repositories, as coord uses them |
| `errors.py` | the refusals of a forge, each with its remedy, and how answers state them and rate limits |
| `github.py` `gitlab.py` `gitea.py` | the implementations |
| `reading.py` | shared by the implementations: answers read into records, refusals recognised by their text |
| `connect.py` | chooses the credential for a repository and host, and opens its forge |
| `locate.py` | the forge and project of a repository, by its `url` or its field `forge` |
| `webhooks.py` | proves that a webhook comes from its forge, and reads its repository; pure |
| `graphql.py` | the calls of GitHub that REST lacks |
| `http.py` | the HTTP client: conditional requests with kept answers, rate limits, retries, pages |
| `budget.py` | the calls per hour of all processes, and the polling interval that they allow |

A `Forge` serves one repository with one token. Adapters translate; they decide nothing about landing.
"""
