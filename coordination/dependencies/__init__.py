"""Whether a repository has what it needs of another one, found out on this machine. Nothing is written here."""
