"""Retries an ended run: a new run of the todos that did not succeed."""
