"""Carry commits between hosts: bundles in Redis, or a branch of the remote repository."""
