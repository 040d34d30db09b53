"""Drawings of plans, runs and repositories from plain data. Pure: no I/O, no clock."""
