"""The version that a checkout's manifest says, a file per kind of manifest; each is `version(folder)`, None where it says none."""
