"""Options that several commands have, and the conversion of their values."""
