"""The commands about runs: begun, followed, steered, cleaned up after."""
