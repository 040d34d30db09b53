"""Checks of dependencies on this machine: whether a repository finds the versions and services that it needs.

The checks change nothing.

| module | content |
|---|---|
| `check.py` | concurrent checks; constraints that contradict each other; cycles |
| `probes.py` `command.py` | a `validation`: a command and its output, or an HTTP address; its mistakes |
| `versions.py` | the version of a checkout, from its manifest or its newest tag |
| `constraints.py` | versions that a constraint admits, by the rules of the provider's language |
| `records.py` | results of checks |
"""
