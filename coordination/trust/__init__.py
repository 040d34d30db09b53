"""Trust: keys, signatures, and the rights of people and programs.

| module | content |
|---|---|
| `public_keys.py` | OpenSSH public keys, and verification of SSHSIG signatures |
| `keys.py` | private keys that sign: files of coord, SSH keys, the agent |
| `identity.py` | the key with which this process signs |
| `envelope.py` | signed documents (DSSE) |
| `rights.py` | roles, rights, and the right that each operation needs |
| `break_glass.py` | emergency access |
| `trust_file.py` | the trust file: principals with their keys and grants |
| `administration.py` | edits of the trust file; review of identity and trust file |
| `orders.py` | signed orders of runs and of operations on runs |
| `results.py` | signed results and adoptions, and the rules by which workers use them |
"""
