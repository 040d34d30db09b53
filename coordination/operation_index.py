"""The declared operations, so that their names are known without their modules; `make docs` writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Indexed(NamedTuple):
    """A declared operation: the class that declares it, the first sentence of its text, its right, the event
    that it leaves, its name where rights are checked, and whether there is a command for it.
    """

    part: str
    line: str
    right: str
    event: str
    """NAME of `command.NAME`; empty where it leaves none."""
    order: str
    command: bool = True


INDEX: Mapping[str, Indexed] = {
    "plan.changes": Indexed(
        "coordination.api.changes:Changes",
        "List the change sets: branch, size, and what they wait for before they land",
        "read",
        "",
        "plan.changes",
    ),
    "plan.diff": Indexed(
        "coordination.api.changes:Changes",
        "Show the difference of a plan's change set to its base, in each repository",
        "read",
        "",
        "plan.diff",
    ),
    "plan.discard": Indexed(
        "coordination.api.changes:Changes",
        "Discard what has not landed of a change set",
        "sweep",
        "discard",
        "discard",
    ),
    "plan.adopt": Indexed(
        "coordination.api.changes:Changes",
        "Take a branch as the tip of a plan's change set",
        "land",
        "adopt",
        "adopt",
    ),
    "plan.resolve": Indexed(
        "coordination.api.changes:Changes",
        "Show where the conflict between a change set and its base branch is resolved",
        "sweep",
        "",
        "plan.resolve",
    ),
    "qa.run": Indexed(
        "coordination.api.landing:QualityChecks",
        "Run the quality checks that repositories declare, in dependency order",
        "execute",
        "qa",
        "qa",
    ),
    "qa.ci": Indexed(
        "coordination.api.landing:QualityChecks",
        "Run quality checks in a CI job: those of the checked-out repositories, at their checked-out commits",
        "execute",
        "qa",
        "qa",
    ),
    "qa.show": Indexed(
        "coordination.api.landing:QualityChecks",
        "Show the quality checks of a run: verdicts, numbers of tests, and failures",
        "read",
        "",
        "qa.show",
    ),
    "repo.exec": Indexed(
        "coordination.api.generators:Commands",
        "Run one command in many repositories",
        "execute",
        "execute",
        "execute",
    ),
    "context.get": Indexed(
        "coordination.api.contexts:Contexts", "Read a value that todos share", "read", "", "context.get"
    ),
    "context.set": Indexed(
        "coordination.api.contexts:Contexts", "Set a value that todos share", "edit", "", "context.set"
    ),
    "context.list": Indexed(
        "coordination.api.contexts:Contexts",
        "List the visible keys of values that todos share",
        "read",
        "",
        "context.list",
    ),
    "context.delete": Indexed(
        "coordination.api.contexts:Contexts", "Delete values that todos share", "edit", "", "context.delete"
    ),
    "context.export": Indexed(
        "coordination.api.contexts:Contexts",
        "Write the values of all contexts to a file, as lines of JSON",
        "read",
        "",
        "context.export",
    ),
    "context.import": Indexed(
        "coordination.api.contexts:Contexts",
        "Import the values of a file; each keeps its remaining time",
        "administer",
        "",
        "context.import",
    ),
    "context.stats": Indexed(
        "coordination.api.contexts:Contexts",
        "Show statistics of shared values and cached results: size, hits, evictions",
        "read",
        "",
        "context.stats",
    ),
    "credential.add": Indexed(
        "coordination.api.credentials:Credentials",
        "Add a credential: the name of a secret of this machine, which is read when it is needed",
        "administer",
        "",
        "credential.add",
    ),
    "credential.list": Indexed(
        "coordination.api.credentials:Credentials",
        "List the credentials of this machine",
        "read",
        "",
        "credential.list",
    ),
    "credential.rotate": Indexed(
        "coordination.api.credentials:Credentials",
        "Read a credential from another reference",
        "administer",
        "",
        "credential.rotate",
    ),
    "credential.revoke": Indexed(
        "coordination.api.credentials:Credentials",
        "Remove a credential from this machine",
        "administer",
        "",
        "credential.revoke",
    ),
    "event.list": Indexed(
        "coordination.api.events:Events",
        "List the events of runs, todos, locks, circuit breakers and commands, oldest first",
        "read",
        "",
        "event.list",
    ),
    "lock.list": Indexed(
        "coordination.api.exclusion:Locks",
        "List the locks with their holders and waiters, ages and times to live",
        "read",
        "",
        "lock.list",
    ),
    "lock.released": Indexed(
        "coordination.api.exclusion:Locks",
        "List the locks that were released by force, latest first",
        "read",
        "",
        "lock.released",
    ),
    "lock.release": Indexed(
        "coordination.api.exclusion:Locks",
        "Release a lock that somebody else holds, or all locks of an owner",
        "release-lock",
        "",
        "lock.release",
    ),
    "resource.list": Indexed(
        "coordination.api.exclusion:Resources",
        "List the resources of the file: capacity, use, waiters",
        "read",
        "",
        "resource.list",
    ),
    "breaker.reset": Indexed(
        "coordination.api.exclusion:Breakers",
        "Close a circuit breaker: its failures are forgotten, and the todos behind it continue",
        "release-lock",
        "",
        "breaker.reset",
    ),
    "plan.campaign": Indexed(
        "coordination.api.generators:Generators",
        "Create a plan that changes and checks many repositories",
        "edit",
        "",
        "plan.campaign",
    ),
    "plan.create_from_template": Indexed(
        "coordination.api.generators:Generators",
        "Create a plan and its todos from a template, for the selected repositories",
        "edit",
        "",
        "plan.create_from_template",
        command=False,
    ),
    "template.list": Indexed(
        "coordination.api.generators:Templates",
        "List the templates of plans: those of the file, and those that come with coord",
        "read",
        "",
        "template.list",
    ),
    "template.show": Indexed(
        "coordination.api.generators:Templates", "Show a template of plans", "read", "", "template.show"
    ),
    "plan.request_proposal": Indexed(
        "coordination.api.proposals:Proposals",
        "Let an agent propose a plan",
        "execute",
        "execute",
        "execute",
        command=False,
    ),
    "plan.preview_proposal": Indexed(
        "coordination.api.proposals:Proposals",
        "Validate a plan that an agent proposes",
        "read",
        "",
        "plan.preview_proposal",
        command=False,
    ),
    "plan.apply_proposal": Indexed(
        "coordination.api.proposals:Proposals",
        "Create the plan that an agent proposes, as a draft, and its todos",
        "edit",
        "",
        "plan.apply_proposal",
        command=False,
    ),
    "repo.health": Indexed(
        "coordination.api.health:HealthOperations",
        "Show the health of repositories, remotes, services and disks",
        "read",
        "",
        "repo.health",
    ),
    "repo.disconnect": Indexed(
        "coordination.api.health:HealthOperations",
        "Disconnect a repository",
        "release-lock",
        "disconnect",
        "disconnect",
    ),
    "repo.connect": Indexed(
        "coordination.api.health:HealthOperations",
        "Connect a repository again",
        "release-lock",
        "connect",
        "connect",
    ),
    "message.send": Indexed(
        "coordination.api.messages:Messages",
        "Send a message to a repository, an agent or a person",
        "edit",
        "",
        "message.send",
    ),
    "message.list": Indexed(
        "coordination.api.messages:Messages",
        "List the messages that wait for a repository, an agent or a person, or for all",
        "read",
        "",
        "message.list",
    ),
    "message.register": Indexed(
        "coordination.api.messages:Messages",
        "Keep messages to a recipient from now on",
        "edit",
        "",
        "message.register",
    ),
    "message.dead": Indexed(
        "coordination.api.messages:Messages",
        "List the dead letters, newest first: messages given up after too many deliveries",
        "read",
        "",
        "message.dead",
    ),
    "message.resend": Indexed(
        "coordination.api.messages:Messages", "Send a dead letter again", "edit", "", "message.resend"
    ),
    "message.ack": Indexed(
        "coordination.api.messages:Messages",
        "Acknowledge messages: they are deleted from the inbox and not delivered again",
        "edit",
        "",
        "message.ack",
    ),
    "topic.publish": Indexed(
        "coordination.api.messages:Topics", "Publish an event on a topic", "edit", "", "topic.publish"
    ),
    "issue.sync": Indexed(
        "coordination.api.requests:Issues",
        "Bring the issues of the file in line with those at the forges of their repositories",
        "edit",
        "",
        "issue.sync",
    ),
    "plan.land": Indexed(
        "coordination.api.landing:Landings",
        "Land a plan: bring its change set into the base branches of its repositories",
        "land",
        "land",
        "land",
    ),
    "plan.revert": Indexed(
        "coordination.api.landing:Landings",
        "Revert a landing: take the landed change set out of the base branches again",
        "land",
        "revert",
        "revert",
    ),
    "plan.preview_landing": Indexed(
        "coordination.api.landing:Landings",
        "Show what a landing would do in each repository",
        "read",
        "",
        "plan.preview_landing",
        command=False,
    ),
    "history.search": Indexed(
        "coordination.history.memory:Memory",
        "Search the history of records: when, what changed, and who did it",
        "read",
        "",
        "history.search",
    ),
    "history.trends": Indexed(
        "coordination.history.memory:Memory",
        "Show the trends of issues, todos and runs, against the days before",
        "read",
        "",
        "history.trends",
    ),
    "history.export": Indexed(
        "coordination.history.memory:Memory",
        "Export the history: every event as a line of JSON, oldest first",
        "read",
        "",
        "history.export",
    ),
    "history.import": Indexed(
        "coordination.history.memory:Memory",
        "Import the events of an export that are new",
        "read",
        "",
        "history.import",
    ),
    "history.rebuild": Indexed(
        "coordination.history.memory:Memory",
        "Begin a new database of the history from the journal of the file",
        "read",
        "",
        "history.rebuild",
    ),
    "plan.graph": Indexed(
        "coordination.api.planning:Planner",
        "Show the dependency graph of a plan: levels, critical path, blocked todos and their blockers",
        "read",
        "",
        "plan.graph",
    ),
    "plan.forecast": Indexed(
        "coordination.api.planning:Planner", "Forecast a sweep of a plan", "read", "", "plan.forecast"
    ),
    "repo.list": Indexed(
        "coordination.api.records:Repositories", "List the repositories of the file", "read", "", "repo.list"
    ),
    "repo.status": Indexed(
        "coordination.api.records:Repositories",
        "Show the state of a repository, or of everything",
        "read",
        "",
        "repo.status",
    ),
    "ecosystem.status": Indexed(
        "coordination.api.records:Repositories",
        "Summarise all repositories: work that is overdue, ready or blocked, and the worst blockers",
        "read",
        "",
        "ecosystem.status",
    ),
    "repo.blocking": Indexed(
        "coordination.api.records:Repositories",
        "List the open issues that block work in a repository, directly or through others",
        "read",
        "",
        "repo.blocking",
    ),
    "issue.list": Indexed(
        "coordination.api.records:IssueRecords",
        "List the issues, most urgent first, then by date",
        "read",
        "",
        "issue.list",
    ),
    "issue.show": Indexed(
        "coordination.api.records:IssueRecords",
        "Show an issue with its blockers and dependents",
        "read",
        "",
        "issue.show",
    ),
    "issue.create": Indexed(
        "coordination.api.records:IssueRecords", "Create an issue", "edit", "", "issue.create"
    ),
    "issue.update": Indexed(
        "coordination.api.records:IssueRecords", "Change fields of an issue", "edit", "", "issue.update"
    ),
    "issue.close": Indexed(
        "coordination.api.records:IssueRecords", "Close an issue", "edit", "", "issue.close"
    ),
    "issue.delete": Indexed(
        "coordination.api.records:IssueRecords", "Delete an issue", "edit", "", "issue.delete"
    ),
    "todo.list": Indexed(
        "coordination.api.records:TodoRecords", "List the todos, most urgent first", "read", "", "todo.list"
    ),
    "todo.show": Indexed(
        "coordination.api.records:TodoRecords",
        "Show a todo with its blockers, its dependents and its state in a run",
        "read",
        "",
        "todo.show",
    ),
    "todo.create": Indexed(
        "coordination.api.records:TodoRecords", "Create a todo", "edit", "", "todo.create"
    ),
    "todo.update": Indexed(
        "coordination.api.records:TodoRecords", "Change fields of a todo", "edit", "", "todo.update"
    ),
    "todo.complete": Indexed(
        "coordination.api.records:TodoRecords",
        "Complete a todo: in the run that waits for it, else in the file",
        "edit",
        "",
        "todo.complete",
    ),
    "todo.delete": Indexed(
        "coordination.api.records:TodoRecords", "Delete a todo", "edit", "", "todo.delete"
    ),
    "plan.list": Indexed(
        "coordination.api.records:PlanRecords", "List the plans, by date", "read", "", "plan.list"
    ),
    "plan.show": Indexed(
        "coordination.api.records:PlanRecords",
        "Show a plan with its milestones, todos, blockers and dependents",
        "read",
        "",
        "plan.show",
    ),
    "plan.create": Indexed(
        "coordination.api.records:PlanRecords", "Create a plan", "edit", "", "plan.create"
    ),
    "plan.update": Indexed(
        "coordination.api.records:PlanRecords",
        "Change fields and milestones of a plan",
        "edit",
        "",
        "plan.update",
    ),
    "plan.complete": Indexed(
        "coordination.api.records:PlanRecords",
        "Mark a plan, or milestones of it, as completed; the checks of their criteria are run",
        "edit",
        "",
        "plan.complete",
        command=False,
    ),
    "plan.validate": Indexed(
        "coordination.api.records:PlanRecords",
        "Check whether a plan is complete",
        "edit",
        "",
        "plan.validate",
    ),
    "plan.delete": Indexed(
        "coordination.api.records:PlanRecords", "Delete a plan", "edit", "", "plan.delete"
    ),
    "dep.list": Indexed(
        "coordination.api.records:Dependencies",
        "List the dependencies between repositories",
        "read",
        "",
        "dep.list",
    ),
    "dep.show": Indexed(
        "coordination.api.records:Dependencies",
        "Show a dependency between repositories, and its check",
        "read",
        "",
        "dep.show",
    ),
    "dep.create": Indexed(
        "coordination.api.records:Dependencies",
        "Create a dependency of one repository on another",
        "edit",
        "",
        "dep.create",
    ),
    "dep.update": Indexed(
        "coordination.api.records:Dependencies", "Change fields of a dependency", "edit", "", "dep.update"
    ),
    "dep.delete": Indexed(
        "coordination.api.records:Dependencies", "Delete a dependency", "edit", "", "dep.delete"
    ),
    "dep.check": Indexed(
        "coordination.api.records:Dependencies",
        "Check the dependencies between repositories",
        "edit",
        "",
        "dep.check",
    ),
    "pr.create": Indexed(
        "coordination.api.requests:PullRequests",
        "Open the pull requests of a plan's change set, or bring them up to date",
        "sweep",
        "pr.create",
        "pr.create",
    ),
    "pr.fix": Indexed(
        "coordination.api.requests:PullRequests",
        "Let agents repair the pull requests of a plan",
        "sweep",
        "pr.fix",
        "pr.fix",
    ),
    "pr.list": Indexed(
        "coordination.api.requests:PullRequests", "List the pull requests of plans", "read", "", "pr.list"
    ),
    "pr.close": Indexed(
        "coordination.api.requests:PullRequests",
        "Close the open pull requests of a plan without a merge",
        "sweep",
        "pr.close",
        "pr.close",
    ),
    "run.show": Indexed(
        "coordination.api.run:Run",
        "Show a run: its status and progress; state, attempts, times, error and wait reason of each todo",
        "read",
        "",
        "run.show",
    ),
    "run.logs": Indexed(
        "coordination.api.run:Run",
        "Read the output of the todos of a run, over all attempts",
        "read",
        "",
        "run.logs",
    ),
    "run.export": Indexed(
        "coordination.api.run:Run",
        "Export a run as a JSON document, compressed if the name of the file ends in .gz",
        "read",
        "",
        "run.export",
    ),
    "run.watch": Indexed(
        "coordination.api.run:Run",
        "Follow a run until it ends, then write its results into the file",
        "read",
        "",
        "run.watch",
    ),
    "run.sync": Indexed(
        "coordination.api.run:Run",
        "Write the results of a run into the file: status, hours and dates of its todos",
        "edit",
        "sync",
        "sync",
    ),
    "run.pause": Indexed(
        "coordination.api.run:Run",
        "Pause a run: start no more todos; running todos continue to their end",
        "sweep",
        "pause",
        "pause",
    ),
    "run.resume": Indexed("coordination.api.run:Run", "Resume a paused run", "sweep", "resume", "resume"),
    "run.cancel": Indexed(
        "coordination.api.run:Run",
        "Cancel a run: start no more todos, and stop the running ones",
        "sweep",
        "cancel",
        "cancel",
    ),
    "run.preview_rollback": Indexed(
        "coordination.api.run:Run",
        "List what a rollback would undo",
        "read",
        "",
        "run.preview_rollback",
        command=False,
    ),
    "checkpoint.create": Indexed(
        "coordination.api.run:Run",
        "Record under a name which todos of a run have succeeded",
        "sweep",
        "checkpoint",
        "checkpoint",
    ),
    "checkpoint.list": Indexed(
        "coordination.api.run:Run",
        "List the checkpoints of a run, the oldest first",
        "read",
        "",
        "checkpoint.list",
    ),
    "checkpoint.restore": Indexed(
        "coordination.api.run:Run",
        "Undo what a run has begun since a checkpoint, in reverse order, then run the rest again",
        "sweep",
        "restore",
        "restore",
    ),
    "run.approve": Indexed(
        "coordination.api.runs:Runs",
        "Approve a todo or milestone that waits at a gate, or a manual todo that a person has done",
        "approve",
        "approve",
        "approve",
    ),
    "run.answer": Indexed(
        "coordination.api.runs:Runs",
        "Answer the question of an agent, which goes on in the same session",
        "approve",
        "approve",
        "approve",
    ),
    "run.reject": Indexed(
        "coordination.api.runs:Runs",
        "Reject a todo or milestone that waits at a gate",
        "approve",
        "reject",
        "reject",
    ),
    "run.sweep": Indexed(
        "coordination.api.runs:Runs",
        "Run a plan: its open todos, in dependency order",
        "sweep",
        "sweep",
        "sweep",
    ),
    "todo.execute": Indexed(
        "coordination.api.runs:Runs", "Run one todo, in a run of its own", "execute", "execute", "execute"
    ),
    "run.retry": Indexed(
        "coordination.api.runs:Runs",
        "Run the failed and blocked todos of a run again, in a new run",
        "sweep",
        "retry",
        "retry",
    ),
    "run.list": Indexed(
        "coordination.api.runs:Runs",
        "List the runs, latest first, without their todos",
        "read",
        "",
        "run.list",
    ),
    "run.costs": Indexed(
        "coordination.api.runs:Runs",
        "Show what agents have used: rounds, turns, tokens and, where it is known, USD",
        "read",
        "",
        "run.costs",
    ),
    "run.import": Indexed(
        "coordination.api.runs:Runs",
        "Import an exported run, whole or not at all",
        "administer",
        "import",
        "import",
    ),
    "run.rollback": Indexed(
        "coordination.api.runs:Runs",
        "Undo a run: stop its running todos, then undo all todos in reverse order",
        "sweep",
        "rollback",
        "rollback",
    ),
    "run.clean": Indexed(
        "coordination.api.runs:Runs",
        "Remove worktrees, branches and logs of ended runs",
        "administer",
        "clean",
        "clean",
    ),
    "run.forget_results": Indexed(
        "coordination.api.runs:Runs",
        "Empty the result cache: todos with a `cache` run again",
        "administer",
        "forget_results",
        "forget_results",
        command=False,
    ),
    "service.list": Indexed(
        "coordination.api.services:Services",
        "List the services with their states on all hosts, in the order of a start",
        "read",
        "",
        "service.list",
    ),
    "service.show": Indexed(
        "coordination.api.services:Services",
        "Show a service: its state, its process, and the last look at it",
        "read",
        "",
        "service.show",
    ),
    "service.start": Indexed(
        "coordination.api.services:Services",
        "Start services with the services that they depend on, and wait until their probes pass",
        "execute",
        "service",
        "service",
    ),
    "service.stop": Indexed(
        "coordination.api.services:Services",
        "Stop services, and before them the services that depend on them",
        "execute",
        "service",
        "service",
    ),
    "service.restart": Indexed(
        "coordination.api.services:Services",
        "Restart services, and the services that depend on them",
        "execute",
        "service",
        "service",
    ),
    "service.logs": Indexed(
        "coordination.api.services:Services",
        "Read the last lines that a service wrote, to standard output and standard error",
        "read",
        "",
        "service.logs",
    ),
    "service.forget": Indexed(
        "coordination.api.services:Services",
        "Delete the states of services of a host that is gone",
        "release-lock",
        "forget_service",
        "forget_service",
    ),
    "steps.load": Indexed(
        "coordination.api.machine:Steps",
        "Load the steps of this version into a Redis server",
        "administer",
        "",
        "steps.load",
    ),
    "identity.init": Indexed(
        "coordination.api.trust:TrustAdministration",
        "Make a key with which this user signs: an Ed25519 key in ~/.config/coord",
        "read",
        "",
        "identity.init",
    ),
    "identity.show": Indexed(
        "coordination.api.trust:TrustAdministration",
        "Show the public key of this user, as a line for trust files",
        "read",
        "",
        "identity.show",
    ),
    "trust.add": Indexed(
        "coordination.api.trust:TrustAdministration", "Trust the owner of a key", "read", "", "trust.add"
    ),
    "trust.revoke": Indexed(
        "coordination.api.trust:TrustAdministration",
        "Revoke a key, or all keys of a principal",
        "read",
        "",
        "trust.revoke",
    ),
    "trust.grant": Indexed(
        "coordination.api.trust:TrustAdministration", "Give a role to a principal", "read", "", "trust.grant"
    ),
    "trust.ungrant": Indexed(
        "coordination.api.trust:TrustAdministration",
        "Take a role from a principal",
        "read",
        "",
        "trust.ungrant",
    ),
    "trust.list": Indexed(
        "coordination.api.trust:TrustAdministration",
        "List the principals of the trust file with their keys and roles",
        "read",
        "",
        "trust.list",
    ),
    "trust.verify": Indexed(
        "coordination.api.trust:TrustAdministration",
        "Check that the trust file can be used, and that nobody else can change it",
        "read",
        "",
        "trust.verify",
    ),
    "trust.break-glass": Indexed(
        "coordination.api.trust:TrustAdministration",
        "Declare an emergency: all rights except approve and override, for one hour",
        "read",
        "",
        "trust.break-glass",
    ),
}
