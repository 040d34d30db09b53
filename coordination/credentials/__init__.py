"""Credentials of this machine: references to secrets, which coord reads when needed and never stores."""
