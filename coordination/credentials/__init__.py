"""Credentials of this machine: references to secrets, which coord reads when it needs them and never stores.

| module | content |
|---|---|
| `records.py` | a credential: its name, reference, repositories, purposes and expiry |
| `references.py` | reads the secret of a reference: env, file, keyring, command |
| `store.py` | the file of credentials; the program that gives a secret to git, for one host |
| `masking.py` | replaces secrets in bytes and texts, in every form in which programs print them |
| `detection.py` | recognises values that look like secrets |
"""
