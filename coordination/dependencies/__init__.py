"""Checks on this machine whether repositories have the versions and services of others that they need.
Read-only.

| module | content |
|---|---|
| `check.py` | concurrent checks; constraints that contradict each other; cycles |
| `probes.py` `command.py` | a `validation`: a command and its output, or an HTTP address; its mistakes |
| `versions.py` `manifests.py` | the version of a checkout: of its manifest or newest tag; search in output |
| `constraints.py` `semver.py` | versions that a constraint admits, by the rules of the provider's language |
| `records.py` | results of checks |
"""
