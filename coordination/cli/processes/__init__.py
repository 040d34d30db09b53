"""Commands that start workers and servers, and prepare Redis for them."""
