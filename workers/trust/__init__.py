"""Signatures on a worker's machine: keys that it trusts, orders before they are executed, results."""
