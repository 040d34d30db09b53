"""Carries commits between hosts: by bundles in Redis, or by a branch of the remote repository."""
