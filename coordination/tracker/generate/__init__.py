"""Generates plans: from a template and the selected repositories to the fields of a plan and its todos; pure.

| module | content |
|---|---|
| `plans.py` | the fields of plan and todos, and the order of the repositories |
| `values.py` | parameters: checked values, in texts and as environment variables |
| `campaign.py` | the template of `coord campaign` |
| `shipped.py` | the templates of the file, and those that come with coord (`templates.yaml`) |

A value never becomes a part of a command for a shell. `${version}` stays in the command, where it is the
shell's own spelling of a variable, and the todo gets the variable in its `env`. So a value like `1; rm -rf /`
is one word of the command, and no second command. In other texts (titles, tasks, prompts, patterns, arguments
of a function) the value replaces it once: a `${…}` inside of a value stays as it is.
"""
