"""Orders of persons on runs: start, retry, import, pause, cancel, roll back, approve.

A process with an identity signs each order of a run that is signed.
"""
