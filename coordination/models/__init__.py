"""Records of ecosystem.yaml as frozen models, without I/O.

This package alone defines the fields and values of the file; `ecosystem/parsing.py` reads it.

| module | content |
|---|---|
| `values.py` | durations, sizes, names; base classes |
| `checks.py` | quality checks of a repository, and their action |
| `execution.py` | strategies, actions, gates, retries, the reuse of results |
| `gates.py` | points where a run waits for a person |
| `landing.py` | how change sets land; the actions of landings |
| `waves.py` | the waves in which a change set lands |
| `repositories.py` | repositories and resources |
| `tracking.py` | issues, plans, todos, dependencies; the whole file |
| `plan_rules.py` | the fields that plans and their templates share |
| `services.py` | services of repositories, and their probes |
| `templates.py` | templates of plans |
"""

from __future__ import annotations

from coordination.models.checks import Check, CheckKind, CheckName, QaAction
from coordination.models.execution import (
    Action,
    AgentAction,
    Backoff,
    Cache,
    FailureSign,
    InWorker,
    Jitter,
    ManualAction,
    NoopAction,
    OnFailure,
    OutputSign,
    PythonAction,
    Retry,
    RewriteAction,
    Sandbox,
    SandboxKind,
    ShellAction,
    Signatures,
    Strategy,
    Workspace,
    WriteBack,
    is_made_by_coord,
    is_of_landing,
)
from coordination.models.gates import Gate, Verdict
from coordination.models.landing import (
    Atomic,
    Commit,
    LandAction,
    LandCheck,
    LandRules,
    LandStep,
    Method,
    RequestFacts,
    RevertAction,
    Via,
)
from coordination.models.plan_rules import PlanChecks, PlanRules, QaWhen
from coordination.models.repositories import ForgeRule, Repo, Resource, ResourceNeed, ResourceType
from coordination.models.services import (
    FileProbe,
    HttpProbe,
    Probe,
    Restart,
    Service,
    ServiceAction,
    ServiceStep,
)
from coordination.models.templates import (
    Parameter,
    ParameterType,
    RepoOrder,
    Template,
    TemplatePlan,
    TemplateStep,
)
from coordination.models.tracking import (
    HIDDEN,
    OPEN_TODO,
    SECRET,
    Coordination,
    Criterion,
    Dependency,
    DependencyStatus,
    DependencyType,
    Ecosystem,
    Issue,
    IssueStatus,
    Milestone,
    Plan,
    PlanStatus,
    Todo,
    TodoStatus,
    Validation,
    presentable,
    secrets_of,
    text_of,
)
from coordination.models.values import (
    DURATION_UNITS_S,
    ECOSYSTEM_ID,
    FILE_NAME,
    Command,
    Count,
    Day,
    Duration,
    Foreign,
    Id,
    Labels,
    Level,
    Record,
    RepoName,
    ResourceName,
    SecretName,
    Size,
    Text,
    Units,
    Word,
    argv_of,
    generated_id,
    lower_case,
    parse_duration,
    parse_size,
)
from coordination.models.waves import REST, Wave, WaveBy, WaveRules, Waves

__all__ = [
    "DURATION_UNITS_S", "ECOSYSTEM_ID", "FILE_NAME", "HIDDEN", "OPEN_TODO", "SECRET", "Action",
    "AgentAction", "Atomic", "Backoff", "Cache", "Check", "CheckKind", "CheckName", "Command", "Commit",
    "Coordination", "Count", "Criterion", "Day", "Dependency", "DependencyStatus", "DependencyType",
    "Duration", "Ecosystem", "FailureSign", "FileProbe", "Foreign", "ForgeRule", "Gate", "HttpProbe",
    "Id", "InWorker", "Issue", "IssueStatus", "Jitter", "Labels", "LandAction", "LandCheck", "LandRules",
    "LandStep", "Level", "ManualAction", "Method", "Milestone", "NoopAction", "OnFailure", "OutputSign",
    "Parameter", "ParameterType", "Plan", "PlanChecks", "PlanRules", "PlanStatus", "Probe",
    "PythonAction", "QaAction", "QaWhen", "REST", "Record", "Repo", "RepoName", "RepoOrder", "RequestFacts",
    "Resource", "ResourceName", "ResourceNeed", "ResourceType", "Restart", "Retry", "RevertAction",
    "RewriteAction", "Sandbox", "SandboxKind", "SecretName", "Service", "ServiceAction", "ServiceStep",
    "ShellAction", "Signatures", "Size", "Strategy", "Template", "TemplatePlan", "TemplateStep", "Text",
    "Todo", "TodoStatus", "Units", "Validation", "Verdict", "Via", "Wave", "WaveBy", "WaveRules", "Waves", "Word", "Workspace", "WriteBack",
    "argv_of", "generated_id", "is_made_by_coord", "is_of_landing", "lower_case", "parse_duration",
    "parse_size", "presentable", "secrets_of", "text_of",
]  # fmt: skip
