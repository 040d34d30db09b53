"""What people say: the options that several commands have, and how what is typed becomes a value."""
