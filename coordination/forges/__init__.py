"""Forges: pull requests and issues at GitHub, GitLab and Gitea behind one interface.

| module | content |
|---|---|
| `forge.py` | the interface: the calls that every forge answers for one repository |
| `models.py` | records of requests, issues, reviews, checks and repositories, as coord uses them |
| `errors.py` | the refusals of a forge, told apart, each with its remedy |
| `github.py` `gitlab.py` `gitea.py` | the members |
| `github_issues.py` `gitlab_issues.py` | their calls of issues |
| `github_graphql.py` | drafts and the merge queue of GitHub |
| `reading.py` | what the members share: answers read into records, refusals told apart by their words |
| `connect.py` | opens the forge of a repository with a token |
| `tokens.py` | chooses the credential for a repository and host |
| `locate.py` | the forge and project of a repository, by its `url` or its field `forge` |
| `webhooks.py` | proves that a webhook comes from its forge, and reads its repository; pure |
| `http.py` | the HTTP client: conditional requests, limits obeyed, safe retries, pages, bounds |
| `limits.py` | the rate limits that an answer states; pure |
| `answers.py` | answers that are kept for conditional requests |
| `budget.py` | calls an hour of all processes, and the polling interval that they allow |

A `Forge` serves one repository with one token. Adapters translate; they decide nothing about landing.
"""
