"""Commands that start workers and servers, and print the Redis users that these need."""
