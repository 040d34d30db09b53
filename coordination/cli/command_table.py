"""The table of all commands, which lists them without importing their modules."""

from __future__ import annotations

from coordination.cli.groups import Families

COMMANDS: Families = {
    "Start": {
        "demo": ("files:demo", "Create a small ecosystem and run its plan."),
        "init": (
            "files:init",
            "Write ecosystem.yaml from the git repositories of a folder.",
            "ecosystem init",
        ),
        "validate": (
            "files:validate",
            "Check the file; print every problem with its line.",
            "ecosystem validate",
        ),
        "doctor": ("doctor:doctor", "Check the file, Redis, hosts, workers, queues and runs."),
        "health": ("doctor:health", "Show the health of repositories, remotes, services and disks."),
        "schema": ("files:schema", "Show the JSON Schema of the file.", "ecosystem schema"),
        "completion": ("completion:completion", "Print the completion script of a shell."),
        "help": ("help:help", "Explain a command, a noun, or a chapter of the documentation."),
    },
    "Read the file": {
        "ecosystem-status": (
            "tracker.status:ecosystem_status",
            "Summarise all repositories.",
            "ecosystem status",
        ),
        "status": (
            "tracker.status:status",
            "Show the state of a repository, or of everything.",
            "repo status",
        ),
        "blocking": (
            "tracker.status:blocking",
            "List the open issues that block work in a repository.",
            "repo blocking",
        ),
        "disconnect-repo": ("doctor:disconnect_repo", "Disconnect a repository."),
        "connect-repo": ("doctor:connect_repo", "Connect a repository again."),
        "list-repos": ("tracker.records:list_repos", "List the repositories of the file."),
        "list-issues": ("tracker.records:list_issues", "List the issues, most urgent first."),
        "show-issue": ("tracker.pages:show_issue", "Show an issue with its blockers and dependents."),
        "list-todos": ("tracker.records:list_todos", "List the todos, most urgent first."),
        "show-todo": (
            "tracker.pages:show_todo",
            "Show a todo with its blockers, its dependents and its state in a run.",
        ),
        "list-plans": ("tracker.records:list_plans", "List the plans."),
        "show-plan": (
            "tracker.pages:show_plan",
            "Show a plan with its milestones, todos, blockers and dependents.",
        ),
        "list-templates": ("runs.campaign:list_templates", "List the templates of plans."),
        "show-template": ("runs.campaign:show_template", "Show a template of plans."),
        "validate-plan": ("tracker.records:validate_plan", "Check whether a plan is complete."),
        "list-deps": ("tracker.dependencies:list_deps", "List the dependencies between repositories."),
        "show-dep": ("tracker.pages:show_dep", "Show a dependency between repositories."),
        "check-deps": ("tracker.dependencies:check_deps", "Check the dependencies between repositories."),
        "export": (
            "tracker.export:export",
            "Export the records of the file as CSV, JSON or Markdown.",
            "ecosystem export",
        ),
        "graph": (
            "runs.forecast:graph",
            "Show the dependency graph of a plan.",
            "plan graph",
        ),
        "forecast": (
            "runs.forecast:forecast",
            "Forecast a sweep of a plan.",
            "plan forecast",
        ),
    },
    "History": {
        "events": (
            "history:events",
            "List or follow the events of runs, todos, locks, circuit breakers and commands.",
            "event list",
        ),
        "history": ("history:history", "Search the history of records."),
        "rebuild-history": (
            "history:rebuild_history",
            "Begin a new database of the history from the journal of the file.",
        ),
        "export-history": ("history:export_history", "Export the history."),
        "import-history": ("history:import_history", "Import the events of an export that are new."),
        "trends": ("history:trends", "Show the trends of issues, todos and runs."),
    },
    "Change the file": {
        "create-issue": ("tracker.records:create_issue", "Create an issue."),
        "update-issue": ("tracker.records:update_issue", "Change fields of an issue."),
        "close-issue": ("tracker.records:close_issue", "Close an issue."),
        "delete-issue": ("tracker.records:delete_issue", "Delete an issue."),
        "sync-issues": (
            "tracker.issue_sync:sync_issues",
            "Bring the issues of the file in line with those at the forges of their repositories.",
        ),
        "create-todo": ("tracker.records:create_todo", "Create a todo."),
        "update-todo": ("tracker.records:update_todo", "Change fields of a todo."),
        "complete-todo": ("tracker.records:complete_todo", "Complete a todo."),
        "delete-todo": ("tracker.records:delete_todo", "Delete a todo."),
        "create-plan": ("runs.campaign:create_plan", "Create a plan."),
        "update-plan": ("tracker.records:update_plan", "Change fields and milestones of a plan."),
        "delete-plan": ("tracker.records:delete_plan", "Delete a plan."),
        "campaign": (
            "runs.campaign:campaign",
            "Create a plan that changes and checks many repositories.",
            "plan campaign",
        ),
        "create-dep": (
            "tracker.dependencies:create_dep",
            "Create a dependency of one repository on another.",
        ),
        "update-dep": ("tracker.dependencies:update_dep", "Change fields of a dependency."),
        "delete-dep": ("tracker.dependencies:delete_dep", "Delete a dependency."),
    },
    "Runs": {
        "sweep": ("runs.sweep:sweep", "Run a plan.", "run sweep"),
        "execute": ("runs.sweep:execute", "Run one todo.", "todo execute"),
        "exec": ("runs.campaign:exec_", "Run one command in many repositories.", "repo exec"),
        "retry": (
            "runs.recovery:retry",
            "Run the failed and blocked todos of a run again, in a new run.",
            "run retry",
        ),
        "start-service": (
            "processes.services:start_service",
            "Start services with the services that they depend on.",
        ),
        "stop-service": (
            "processes.services:stop_service",
            "Stop services, and before them the services that depend on them.",
        ),
        "restart-service": (
            "processes.services:restart_service",
            "Restart services, and the services that depend on them.",
        ),
        "list-services": (
            "processes.services:list_services",
            "List the services with their states on all hosts.",
        ),
        "show-service": (
            "processes.services:show_service",
            "Show a service: its state, its process, and the last look at it.",
        ),
        "forget-service": (
            "processes.services:forget_service",
            "Delete the states of services of a host that is gone.",
        ),
        "service-logs": (
            "processes.services:service_logs",
            "Read the last lines that a service wrote.",
            "service logs",
        ),
        "changes": (
            "landing.changes:changes",
            "List the change sets: branch, size, and what they wait for before they land.",
            "plan changes",
        ),
        "diff": (
            "landing.changes:diff",
            "Show the difference of a plan's change set to its base.",
            "plan diff",
        ),
        "adopt": ("landing.changes:adopt", "Take a branch as the tip of a plan's change set.", "plan adopt"),
        "resolve": (
            "landing.changes:resolve",
            "Show where the conflict between a change set and its base branch is resolved.",
            "plan resolve",
        ),
        "qa": ("landing.checks:qa", "Run the quality checks that repositories declare.", "qa run"),
        "ci": ("landing.checks:ci", "Run quality checks in a CI job.", "qa ci"),
        "show-qa": ("landing.checks:show_qa", "Show the quality checks of a run.", "qa show"),
        "land": (
            "landing.land:land",
            "Land a plan: bring its change set into the base branches of its repositories.",
            "plan land",
        ),
        "create-pr": (
            "landing.requests:create_pr",
            "Open the pull requests of a plan's change set, or bring them up to date.",
        ),
        "list-prs": ("landing.requests:list_prs", "List the pull requests of plans."),
        "close-pr": ("landing.requests:close_pr", "Close the open pull requests of a plan without a merge."),
        "open-pr": ("landing.requests:open_pr", "Open the pull requests of a plan."),
        "revert": (
            "landing.land:revert",
            "Revert a landing: take the landed change set out of the base branches again.",
            "plan revert",
        ),
        "list-runs": ("runs.inspection:list_runs", "List the runs, latest first."),
        "show-run": ("runs.inspection:show_run", "Show a run: its status and progress."),
        "watch": ("runs.inspection:watch", "Follow a run until it ends.", "run watch"),
        "logs": ("runs.inspection:logs", "Read the output of the todos of a run.", "run logs"),
        "pause": ("runs.control:pause", "Pause a run: start no more todos.", "run pause"),
        "resume": ("runs.control:resume", "Resume a paused run.", "run resume"),
        "cancel": ("runs.control:cancel", "Cancel a run.", "run cancel"),
        "approve": (
            "runs.control:approve",
            "Approve a todo or milestone that waits at a gate.",
            "run approve",
        ),
        "reject": ("runs.control:reject", "Reject a todo or milestone that waits at a gate.", "run reject"),
        "rollback": (
            "runs.recovery:rollback",
            "Undo a run: stop its running todos, then undo all todos in reverse order.",
            "run rollback",
        ),
        "checkpoint": (
            "runs.recovery:checkpoint",
            "Create, list and restore checkpoints of a run.",
            "run checkpoint",
        ),
        "sync": ("runs.inspection:sync", "Write the results of a run into the file.", "run sync"),
        "export-run": ("runs.storage:export_run", "Export a run as a JSON document."),
        "import-run": ("runs.storage:import_run", "Import an exported run."),
        "clean": ("runs.storage:clean", "Remove worktrees, branches and logs of ended runs.", "run clean"),
    },
    "Locks and shared values": {
        "list-locks": ("locks:list_locks", "List the locks with their holders and waiters."),
        "release-lock": ("locks:release_lock", "Release a lock that somebody else holds."),
        "reset-breaker": ("locks:reset_breaker", "Close a circuit breaker."),
        "context": ("context_commands:context", "Read and write values that todos share."),
        "list-resources": ("locks:list_resources", "List the resources of the file: capacity, use, waiters."),
    },
    "Messages": {
        "send-message": ("messages:send_message", "Send a message to a repository, an agent or a person."),
        "list-messages": (
            "messages:list_messages",
            "List the messages that wait for a repository, an agent or a person.",
        ),
        "publish": ("messages:publish", "Publish an event on a topic.", "topic publish"),
        "subscribe": ("messages:subscribe", "Receive the events of topics.", "topic subscribe"),
    },
    "Trust": {
        "identity": (
            "trust:identity",
            "Make and show the key with which you sign runs, approvals and other orders.",
        ),
        "trust": ("trust:trust", "Edit the trust file of this machine."),
    },
    "Processes": {
        "up": ("processes.machine:up", "Start server, worker, Flower and dashboard on this machine."),
        "down": ("processes.machine:down", "Stop the processes that were started for this file."),
        "worker": ("processes.machine:worker", "Serve repositories of this machine."),
        "keeper": ("processes.machine:keeper", "Run maintenance, in the foreground, until stopped."),
        "acl": ("processes.acl:acl", "Print the line of a Redis ACL file for one user."),
        "credential": (
            "processes.credentials:credential",
            "Name secrets of this machine.",
        ),
        "steps": ("processes.acl:steps", "Load the steps of coord into a Redis server."),
        "mcp": ("processes.servers:mcp", "Serve coord's operations as tools to AI agents."),
        "gateway": (
            "processes.servers:gateway",
            "Serve messages over WebSocket to browsers and agents that have no Redis.",
        ),
        "dashboard": ("processes.dashboard:dashboard", "Serve pages for people."),
        "open": ("processes.dashboard:open_", "Open the dashboard in the browser."),
        "flower": ("processes.machine:flower", "Start Flower, which shows workers and tasks."),
        "metrics": ("processes.machine:metrics", "Serve coord's metrics to Prometheus."),
    },
}

EVERYDAY = (
    "init", "validate", "doctor", "status", "sweep", "watch", "logs", "retry", "rollback", "land", "help",
)  # fmt: skip
"""Commands that `coord --help` lists before the nouns."""

NOUNS = {
    "breaker": "circuit breakers",
    "dep": "dependencies between repositories",
    "ecosystem": "the file ecosystem.yaml",
    "event": "events of runs, locks and commands",
    "history": "the history of the file and of runs",
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
    "template": "templates of plans",
    "todo": "todos",
    "topic": "topics, on which events are published",
}
"""The plural of each noun, as its help names it."""
