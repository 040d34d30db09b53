"""The table of all commands, which lists them without importing their modules."""

from __future__ import annotations

from coordination.cli.groups import Families

COMMANDS: Families = {
    "Start": {
        "demo": ("demo", "Create a small ecosystem and run its plan."),
        "init": ("files", "Write ecosystem.yaml from the git repositories of a folder.", "ecosystem init"),
        "validate": ("files", "Check the file; print every problem with its line.", "ecosystem validate"),
        "doctor": ("doctor", "Check the file, Redis, hosts, workers, queues and runs."),
        "schema": ("files", "Show the JSON Schema of the file.", "ecosystem schema"),
        "completion": ("completion", "Print the completion script of a shell."),
        "help": ("help", "Explain a command, a noun, or a chapter of the documentation."),
    },
    "Read the file": {
        "status": "repo.status",
        "blocking": "repo.blocking",
        "list-issues": "issue.list",
        "show-issue": "issue.show",
        "list-todos": "todo.list",
        "show-todo": "todo.show",
        "list-plans": "plan.list",
        "list-deps": "dep.list",
        "check-deps": "dep.check",
        "export": (
            "tracker.exchange",
            "Export the records of the file as CSV, JSON or Markdown.",
            "ecosystem export",
        ),
    },
    "Change the file": {
        "create-issue": "issue.create",
        "update-issue": "issue.update",
        "close-issue": "issue.close",
        "create-todo": "todo.create",
        "complete-todo": "todo.complete",
        "campaign": "plan.campaign",
    },
    "Runs": {
        "sweep": "run.sweep",
        "exec": "repo.exec",
        "retry": "run.retry",
        "changes": "plan.changes",
        "land": "plan.land",
        "open-pr": ("landing.requests", "Open the pull requests of a plan."),
        "revert": "plan.revert",
        "list-runs": "run.list",
        "show-run": "run.show",
        "watch": "run.watch",
        "logs": "run.logs",
        "cancel": "run.cancel",
        "answer": "run.answer",
        "approve": "run.approve",
        "costs": "run.costs",
        "rollback": "run.rollback",
    },
    "Messages": {
        "subscribe": ("messages", "Receive the events of topics.", "topic subscribe"),
    },
    "Processes": {
        "up": ("processes.machine", "Start server, worker, Flower and dashboard on this machine."),
        "down": ("processes.machine", "Stop the processes that were started for this file."),
        "worker": ("processes.machine", "Serve repositories of this machine."),
        "keeper": ("processes.machine", "Run maintenance, in the foreground, until stopped."),
        "acl": ("processes.access", "Print the line of a Redis ACL file for one user."),
        "mcp": ("processes.servers", "Serve coord's operations as tools to AI agents."),
        "gateway": (
            "processes.servers",
            "Serve messages over WebSocket to browsers and agents that have no Redis.",
        ),
        "dashboard": ("processes.servers", "Serve pages for people."),
        "open": ("processes.machine", "Open the dashboard in the browser."),
        "flower": ("processes.machine", "Start Flower, which shows workers and tasks."),
        "metrics": ("processes.machine", "Serve coord's metrics to Prometheus."),
    },
}

EVERYDAY = (
    "demo", "init", "validate", "doctor", "status", "sweep", "exec", "campaign", "watch", "logs", "show-run",
    "list-runs", "approve", "cancel", "retry", "rollback", "changes", "land", "revert", "help",
)  # fmt: skip
"""Commands that `coord --help` lists before the nouns."""

ADVANCED = (
    "acl", "breaker", "checkpoint", "context", "gateway", "identity", "keeper", "message", "metrics", "steps",
    "topic", "trust",
)  # fmt: skip
"""Commands and nouns that `coord --help` names in one line."""

NOUNS = {
    "breaker": "circuit breakers",
    "checkpoint": "checkpoints of runs",
    "context": "values that todos share",
    "credential": "names of secrets of this machine, for todos and for git",
    "dep": "dependencies between repositories",
    "ecosystem": "the file ecosystem.yaml",
    "event": "events of runs, locks and commands",
    "history": "the history of the file and of runs",
    "identity": "the key with which you sign runs, approvals and other orders",
    "issue": "issues",
    "lock": "locks",
    "message": "messages",
    "plan": "plans and their change sets",
    "pr": "pull requests",
    "qa": "quality checks",
    "repo": "repositories",
    "resource": "resources that todos share",
    "run": "runs",
    "service": "services",
    "steps": "the steps of coord, a library of Redis Functions",
    "template": "templates of plans",
    "todo": "todos",
    "trust": "the trust file of this machine: the people and programs whose orders its workers execute",
    "topic": "topics, on which events are published",
}
"""The plural of each noun, as its help names it."""
