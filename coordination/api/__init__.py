"""The one facade: every operation, for the commands, MCP and scripts. Front ends import no package below it.

| module | content |
|---|---|
| `facade.py` | all operations on one ecosystem |
| `access.py` | file, settings, local processes and Redis of the ecosystem, each opened on first use |
| `coord.py` | the facade of scripts and servers, which live longer than a command; its figures |
| `specification.py` | names of the original specification that have no other place |
| `runs.py` | all runs, and decisions about their todos |
| `run.py` | one run |
| `changes.py` | change sets: shown, compared, adopted, discarded |
| `generators.py` | plans and todos made for many repositories; one command in many repositories |
| `proposals.py` | plans that agents propose: requested, previewed, applied |
| `landing.py` | quality checks; change sets into the base branches, and out of them again |
| `requests.py` | pull requests of change sets, and issues, at forges |
| `services.py` | services of repositories: start, stop, states |
| `contexts.py` | values that todos share |
| `health.py` | health; repositories disconnected and connected |
| `exclusion.py` | locks, resources and circuit breakers |
| `records.py` `fields.py` | records of the file and repositories; the fields of a record |
| `completion.py` | completion of a todo, in its run or in the file |
| `planning.py` | order and duration of a plan, preview of a sweep |
| `messages.py` `machine.py` | messages; doctor, Flower, metrics, ACL users, the first file |
| `events.py` | events: listed, followed; functions that are called with them |
| `parameters.py` | parameters that several operations have |
| `texts.py` | the text of each operation and of shared arguments, for all front ends |
| `authority.py` | what the user of this process may do |
| `trust.py` | the identity of this user, and the trust file |
| `credentials.py` | the credentials of this machine |

The records that operations take and return are imported from here. Each comes from its own module when it is
first asked for: a command that lists todos starts without anything of runs.
"""
# mypy: implicit-reexport
# ruff: noqa: F401 (these imports are the names that the facade exports)

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordination.api.fields import (
        DependencyFields,
        IssueFields,
        NewDependency,
        NewIssue,
        NewPlan,
        NewTodo,
        PlanFields,
        TodoFields,
    )
    from coordination.backend.address import hide_password
    from coordination.backend.error_messages import NO_ROOM
    from coordination.backend.server_check import Finding, Severity
    from coordination.breakers.records import Breaker, Reset
    from coordination.cache.connection import TodoContext, todo_context
    from coordination.cache.contexts import Cache, Context, Kept
    from coordination.cache.names import Scope
    from coordination.changes.adoption import Adoption
    from coordination.changes.checkout import RepoDiff
    from coordination.changes.discard import Discarded
    from coordination.changes.issues.rules import (
        IssueAction,
        IssueResult,
        IssueSyncOptions,
        IssueSyncReport,
        Side,
    )
    from coordination.changes.requests.records import (
        RequestAction,
        RequestOptions,
        RequestResult,
        RequestView,
    )
    from coordination.changes.requests.repair import RepairAction, RepairResult
    from coordination.changes.resolve import ConflictState, Resolution
    from coordination.changes.view import ChangeView, ChangeWait, ToLand
    from coordination.charts.svg import MADE_BY
    from coordination.checks.ci import CiJob, annotations_of, summary_of, write_junit
    from coordination.checks.report import CheckView, QaReport, checks_in_words
    from coordination.checks.start import CheckOptions, PreparedChecks
    from coordination.credentials.records import Credential, Expiry, Purpose
    from coordination.dependencies.records import DependencyReport, Outcome
    from coordination.ecosystem.diagnostics import USED_ELSEWHERE
    from coordination.ecosystem.document import Document
    from coordination.ecosystem.presentable import presentable_text
    from coordination.ecosystem.writeback import Written
    from coordination.ecosystem.yaml_text.tree import AliasBomb, read_tree, read_values
    from coordination.events.kinds import GAP, KINDS
    from coordination.events.records import BEGINNING, POSITION, Event
    from coordination.forges.models import CheckState, RequestState, ReviewState
    from coordination.history.events import HistoryEvent
    from coordination.history.search import HISTORY_KINDS, HistoryFilters
    from coordination.history.trends import RunTrend, Trend, Trends
    from coordination.landing.preview import LandingPreview, RepoPreview
    from coordination.landing.records import LandOptions
    from coordination.landing.start import PreparedLanding
    from coordination.locks.listing import LOCK, Held, Holder
    from coordination.locks.manager import Released
    from coordination.operations.doctor import UNWELL, Checkup, findings, too_large_words
    from coordination.operations.http_limits import http_limits
    from coordination.operations.listening import Address, context_for, listen
    from coordination.operations.local import Local, Running, Stopped
    from coordination.operations.metrics import METRICS_PORT
    from coordination.operations.pages import (
        DASHBOARD_PORT,
        FLOWER_COMMAND,
        FLOWER_PORT,
        Access,
        dashboard_is_installed,
    )
    from coordination.planner.blockers import FINISHED
    from coordination.planner.forecast import Forecast, Saving
    from coordination.planner.gates import DONE, MILESTONE_REPO, effect_of_timeout
    from coordination.planner.graph import PlanGraph
    from coordination.planner.proposal import Proposal, proposal_schema
    from coordination.planner.selection import Selectors
    from coordination.runs.change_sets.records import CheckVerdict, RequestRef
    from coordination.runs.cleanup_jobs import Artifact, Kind
    from coordination.runs.control.approvals import Decision
    from coordination.runs.control.named_checkpoints import NamedCheckpoint
    from coordination.runs.control.signing import Subject
    from coordination.runs.control.steering import RollbackPreview
    from coordination.runs.logs import last_lines
    from coordination.runs.maintenance.cleaning import Survey, in_words
    from coordination.runs.records import AgentUsage, RunStatus, TodoState, WaitReason
    from coordination.runs.retrying.retry_plan import RetryPlan
    from coordination.runs.run_kinds import is_landing, only_looks, runs_command, start_again
    from coordination.runs.submission.dry_run import DryRun, Step
    from coordination.runs.submission.refusals import LeftOut
    from coordination.runs.views.costs import AgentCosts, CostsBy
    from coordination.runs.views.levels_and_waves import levels_of
    from coordination.runs.views.records import (
        LevelView,
        NoEta,
        Progress,
        RunView,
        TodoView,
        WaveState,
        WaveView,
    )
    from coordination.runs.views.run_events import RunEvent
    from coordination.runs.views.run_list import OF_TODOS, UNDOABLE, ActsOn
    from coordination.runs.views.run_view import LAST
    from coordination.runs.views.todo_view import IN_HAND
    from coordination.runs.views.todos_in_runs import Asked, LiveTodo
    from coordination.services.graph import Phase
    from coordination.services.transition import ServicesOutcome, Transition
    from coordination.services.view import ServiceView
    from coordination.tracker.kinds import OPEN
    from coordination.tracker.manager import CoordinationManager
    from coordination.tracker.queries import as_view
    from coordination.tracker.records import (
        BlockedTodo,
        BlockingIssue,
        DeletePreview,
        EcosystemStatus,
        Edited,
        GeneratedPlan,
        MilestoneStanding,
        Overdue,
        PlanCompletion,
        ProposedPlan,
        Removed,
        RepoLine,
        RepoStatus,
        TodoInView,
    )
    from coordination.tracker.relations import Chains, Link

_HOMES = {  # module → the names above that come from it when they are first asked for
    "api.fields": (
        "DependencyFields",
        "IssueFields",
        "NewDependency",
        "NewIssue",
        "NewPlan",
        "NewTodo",
        "PlanFields",
        "TodoFields",
    ),
    "backend.address": ("hide_password",),
    "backend.error_messages": ("NO_ROOM",),
    "backend.server_check": ("Finding", "Severity"),
    "breakers.records": ("Breaker", "Reset"),
    "cache.connection": ("TodoContext", "todo_context"),
    "cache.contexts": ("Cache", "Context", "Kept"),
    "cache.names": ("Scope",),
    "changes.adoption": ("Adoption",),
    "changes.discard": ("Discarded",),
    "changes.checkout": ("RepoDiff",),
    "changes.issues.rules": (
        "IssueAction",
        "IssueResult",
        "IssueSyncOptions",
        "IssueSyncReport",
        "Side",
    ),
    "changes.requests.records": ("RequestAction", "RequestOptions", "RequestResult", "RequestView"),
    "changes.requests.repair": ("RepairAction", "RepairResult"),
    "changes.resolve": ("ConflictState", "Resolution"),
    "changes.view": ("ChangeView", "ChangeWait", "ToLand"),
    "charts.svg": ("MADE_BY",),
    "checks.ci": ("CiJob", "annotations_of", "summary_of", "write_junit"),
    "checks.report": ("CheckView", "QaReport", "checks_in_words"),
    "checks.start": ("CheckOptions", "PreparedChecks"),
    "credentials.records": ("Credential", "Expiry", "Purpose"),
    "dependencies.records": ("DependencyReport", "Outcome"),
    "ecosystem.document": ("Document",),
    "ecosystem.diagnostics": ("USED_ELSEWHERE",),
    "ecosystem.presentable": ("presentable_text",),
    "ecosystem.writeback": ("Written",),
    "ecosystem.yaml_text.tree": ("AliasBomb", "read_tree", "read_values"),
    "events.kinds": ("GAP", "KINDS"),
    "events.records": ("BEGINNING", "Event", "POSITION"),
    "forges.models": ("CheckState", "RequestState", "ReviewState"),
    "history.events": ("HistoryEvent",),
    "history.search": ("HISTORY_KINDS", "HistoryFilters"),
    "history.trends": ("RunTrend", "Trend", "Trends"),
    "landing.preview": ("LandingPreview", "RepoPreview"),
    "landing.records": ("LandOptions",),
    "landing.start": ("PreparedLanding",),
    "locks.manager": ("Released",),
    "locks.listing": ("LOCK", "Held", "Holder"),
    "operations.doctor": ("UNWELL", "Checkup", "findings", "too_large_words"),
    "operations.http_limits": ("http_limits",),
    "operations.listening": ("Address", "context_for", "listen"),
    "operations.local": ("Local", "Running", "Stopped"),
    "operations.metrics": ("METRICS_PORT",),
    "operations.pages": (
        "Access",
        "DASHBOARD_PORT",
        "FLOWER_COMMAND",
        "FLOWER_PORT",
        "dashboard_is_installed",
    ),
    "planner.blockers": ("FINISHED",),
    "planner.forecast": ("Forecast", "Saving"),
    "planner.gates": ("DONE", "MILESTONE_REPO", "effect_of_timeout"),
    "planner.graph": ("PlanGraph",),
    "planner.proposal": ("Proposal", "proposal_schema"),
    "planner.selection": ("Selectors",),
    "runs.change_sets.records": ("CheckVerdict", "RequestRef"),
    "runs.cleanup_jobs": ("Artifact", "Kind"),
    "runs.control.approvals": ("Decision",),
    "runs.control.signing": ("Subject",),
    "runs.control.steering": ("RollbackPreview",),
    "runs.maintenance.cleaning": ("Survey", "in_words"),
    "runs.records": ("AgentUsage", "RunStatus", "TodoState", "WaitReason"),
    "runs.control.named_checkpoints": ("NamedCheckpoint",),
    "runs.retrying.retry_plan": ("RetryPlan",),
    "runs.logs": ("last_lines",),
    "runs.run_kinds": ("is_landing", "only_looks", "runs_command", "start_again"),
    "runs.submission.dry_run": ("DryRun", "Step"),
    "runs.submission.refusals": ("LeftOut",),
    "runs.views.todos_in_runs": ("Asked", "LiveTodo"),
    "runs.views.costs": ("AgentCosts", "CostsBy"),
    "runs.views.levels_and_waves": ("levels_of",),
    "runs.views.records": ("LevelView", "NoEta", "Progress", "RunView", "TodoView", "WaveState", "WaveView"),
    "runs.views.run_events": ("RunEvent",),
    "runs.views.run_list": ("OF_TODOS", "UNDOABLE", "ActsOn"),
    "runs.views.run_view": ("LAST",),
    "runs.views.todo_view": ("IN_HAND",),
    "services.graph": ("Phase",),
    "services.transition": ("ServicesOutcome", "Transition"),
    "services.view": ("ServiceView",),
    "tracker.queries": ("as_view",),
    "tracker.kinds": ("OPEN",),
    "tracker.manager": ("CoordinationManager",),
    "tracker.records": (
        "BlockedTodo",
        "BlockingIssue",
        "DeletePreview",
        "EcosystemStatus",
        "Edited",
        "GeneratedPlan",
        "MilestoneStanding",
        "Overdue",
        "PlanCompletion",
        "ProposedPlan",
        "Removed",
        "RepoLine",
        "RepoStatus",
        "TodoInView",
    ),
    "tracker.relations": ("Chains", "Link"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'coordination.api' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"coordination.{_HOME_OF[name]}"), name)
