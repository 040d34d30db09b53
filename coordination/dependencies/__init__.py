"""Whether a repository has what it needs of another one, found out on this machine. Nothing is written here.

| file | |
|---|---|
| `check.py` | many at once; each by its `validation`, else by the version that is there |
| `probes.py` `command.py` `searching.py` `health.py` | a validation carried out: a command, what it printed, an address |
| `versions.py` `manifests/` `tags.py` | the version that a checkout has: what its manifest says, else its newest tag |
| `constraints.py` `semver.py` | what a constraint admits, by the rules of the provider's language |
| `mistakes.py` `contradictions.py` `cycles.py` | what cannot be meant so, or does not go together, without a look at what is there |
| `verdict.py` `records.py` | what is found out |
"""
