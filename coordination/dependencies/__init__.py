"""Whether a repository has what it needs of another one, found out on this machine. Nothing is written here.

| file | |
|---|---|
| `check.py` | many at once; each by its `validation`, else by the version that is there |
| `probes.py` `command.py` `searching.py` `health.py` | a validation carried out: a command, what it printed, an address |
| `versions.py` `manifests/` | the version that a checkout has: what its manifest says, else its newest tag |
| `constraints.py` `semver.py` | what a constraint admits, by the rules of the provider's language |
| `mistakes.py` `contradictions.py` | requirements that cannot be checked, or exclude each other: found without a look at what is there |
| `records.py` | what is found out |
"""
