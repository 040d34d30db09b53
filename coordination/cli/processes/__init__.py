"""The commands that start what goes on by itself: workers, keepers, servers; and the users that those are to Redis."""
