"""The way by pull request: landing and reverting by requests that the forge merges."""
