"""Commands on change sets, from quality checks to the base branches."""
