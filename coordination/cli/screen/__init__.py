"""What people see: tables, pages, JSON, a line by a template. Nothing here knows a command."""
