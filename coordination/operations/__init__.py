"""What runs on this machine, started and stopped, counted by its users: `local.py`; Flower: `flower.py`; a look
at runs that nobody waits for: `glance.py`; what earlier runs
have taught: `learning.py`.
"""
