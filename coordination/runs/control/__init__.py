"""Orders of persons on runs: start, retry, import, pause, cancel, roll back, approve.

A process with an identity signs each order of a run that is signed.

| module | content |
|---|---|
| `starting.py` | starts runs, of plans, landings, checks and services; imports runs |
| `steering.py` | pauses, resumes and cancels runs; previews rollbacks, rolls back, restores, accepts |
| `named_checkpoints.py` | the states that people named, to which a run can be taken back |
| `approvals.py` | decisions of persons on gates and manual todos |
| `signing.py` | signs operations on runs; adds the verified signers to the view of a run |
"""
