"""Operations, fields and corrections of the extracts: the input of `extract.py` beside the official files."""

from __future__ import annotations

from typing import Any

_R = "/repos/{owner}/{repo}"
_P = "/projects/{id}"
_MR = f"{_P}/merge_requests/{{merge_request_iid}}"
_PEOPLES_STATES = ("active", "unreviewed", "reviewed", "requested_changes", "approved", "unapproved")
_PERSON: dict[str, Any] = {"$ref": "#/schemas/API_Entities_UserBasic"}

DESCRIBED = {
    "github": (
        f"GET {_R}",
        *(f"GET {_R}/pulls", f"POST {_R}/pulls", f"GET {_R}/pulls/{{pull_number}}"),
        *(f"PATCH {_R}/pulls/{{pull_number}}", f"PUT {_R}/pulls/{{pull_number}}/merge"),
        *(f"GET {_R}/pulls/{{pull_number}}/reviews", f"POST {_R}/pulls/{{pull_number}}/requested_reviewers"),
        *(f"GET {_R}/commits/{{ref}}/check-runs", f"GET {_R}/commits/{{ref}}/status"),
        f"POST {_R}/statuses/{{sha}}",
        *(f"GET {_R}/branches/{{branch}}", f"GET {_R}/branches/{{branch}}/protection"),
        *(f"GET {_R}/rules/branches/{{branch}}", f"GET {_R}/labels", f"GET {_R}/issues", f"POST {_R}/issues"),
        f"GET {_R}/issues/{{issue_number}}",
        *(f"PATCH {_R}/issues/{{issue_number}}", f"POST {_R}/issues/{{issue_number}}/comments"),
    ),
    "gitlab": (
        *(f"GET {_P}", f"GET {_P}/merge_requests", f"POST {_P}/merge_requests", f"GET {_MR}", f"PUT {_MR}"),
        *(f"PUT {_MR}/merge", f"GET {_MR}/approvals", f"GET {_MR}/reviewers", f"GET {_P}/pipelines"),
        *(f"GET {_P}/repository/commits/{{sha}}/statuses", f"POST {_P}/statuses/{{sha}}"),
    ),
}

DESCRIBED["gitea"] = (
    *(f"GET {_R}", f"GET {_R}/pulls", f"POST {_R}/pulls", f"GET {_R}/pulls/{{index}}"),
    *(f"PATCH {_R}/pulls/{{index}}", f"POST {_R}/pulls/{{index}}/merge"),
    *(f"GET {_R}/pulls/{{index}}/reviews", f"POST {_R}/pulls/{{index}}/requested_reviewers"),
    *(f"GET {_R}/commits/{{ref}}/statuses", f"POST {_R}/statuses/{{sha}}"),
    *(f"GET {_R}/branches/{{branch}}", f"GET {_R}/branch_protections/{{name}}"),
    *(f"GET {_R}/labels", f"POST {_R}/issues/{{index}}/comments"),
    *(f"GET {_R}/issues", f"POST {_R}/issues", f"GET {_R}/assignees"),
    *(f"GET {_R}/issues/{{index}}", f"PATCH {_R}/issues/{{index}}", f"PUT {_R}/issues/{{index}}/labels"),
)

_GITLAB_ISSUE: dict[str, Any] = {
    "title": {"type": "string"},
    "description": {"type": "string"},
    "labels": {"type": ["string", "array"], "items": {"type": "string"}},
    "assignee_ids": {"type": "array", "items": {"type": "integer"}},
}
_INTEGER, _STRING = {"type": "integer"}, {"type": "string"}
_GITLAB_FOUND_ISSUE: dict[str, Any] = {
    "type": "object",
    "required": ["iid", "title", "description", "state", "labels", "assignees", "web_url"],
    "properties": {
        **dict.fromkeys(("id", "iid", "project_id"), _INTEGER),
        **dict.fromkeys(("title", "web_url", "created_at", "updated_at"), _STRING),
        **{name: {"type": ["string", "null"]} for name in ("description", "closed_at")},
        "state": {"enum": ["opened", "closed"]},
        "labels": {"type": "array", "items": _STRING},
        "assignees": {"type": "array", "items": _PERSON},
        "author": _PERSON,
    },
    "additionalProperties": False,
}
_READ: dict[str, Any] = {"query": {}, "body": None, "answers": {}}
_LIST: dict[str, Any] = {**_READ, "query": {"page": {}, "per_page": {}}}
_NOTE: dict[str, Any] = {
    "query": {},
    "body": {"type": "object", "required": ["body"], "properties": {"body": _STRING}},
    "answers": {},
}
UNDESCRIBED: dict[str, dict[str, Any]] = {
    # GraphQL has a schema of its own; its calls are read by hand. Of the others, which the API's manual
    # has, a log is no JSON, and one field of the rights of a person is read.
    "github": {
        "POST /graphql": {"query": {}, "body": {"type": "object", "required": ["query"]}, "answers": {}},
        f"GET {_R}/actions/jobs/{{job_id}}/logs": _READ,
        f"GET {_R}/collaborators/{{username}}/permission": _READ,
    },
    # In the API's manual, and not in openapi_v2.yaml; those of issues also in openapi_v3.yaml of 19.5, which
    # states the same fields, and for the list a single record.
    "gitlab": {
        "GET /users": {
            "query": {"page": {}, "per_page": {}, "username": {"type": "string"}},
            "body": None,
            "answers": {},
        },
        f"GET {_P}/labels": {
            "query": {"page": {}, "per_page": {}, "search": {"type": "string"}},
            "body": None,
            "answers": {},
        },
        f"GET {_P}/issues": {
            "query": {
                "page": {},
                "per_page": {},
                "state": {"enum": ["opened", "closed", "all"]},
                "scope": {"enum": ["created_by_me", "assigned_to_me", "all"]},
                "order_by": {"enum": ["created_at", "updated_at"]},
                "sort": {"enum": ["asc", "desc"]},
                "updated_after": {"type": "string"},
            },
            "body": None,
            "answers": {"200": {"type": "array", "items": _GITLAB_FOUND_ISSUE}, "404": None},
        },
        f"POST {_P}/issues": {
            "query": {},
            "body": {
                "type": "object",
                "required": ["title"],
                "properties": _GITLAB_ISSUE,
                "additionalProperties": False,
            },
            "answers": {"201": _GITLAB_FOUND_ISSUE, **dict.fromkeys(("400", "404"))},
        },
        f"PUT {_P}/issues/{{issue_iid}}": {
            "query": {},
            "body": {
                "type": "object",
                "properties": {**_GITLAB_ISSUE, "state_event": {"enum": ["close", "reopen"]}},
                "additionalProperties": False,
            },
            "answers": {"200": _GITLAB_FOUND_ISSUE, **dict.fromkeys(("400", "404"))},
        },
        f"GET {_P}/approval_rules": {"query": {"page": {}, "per_page": {}}, "body": None, "answers": {}},
        f"GET {_P}/merge_trains/merge_requests/{{merge_request_iid}}": {
            "query": {},
            "body": None,
            "answers": {},
        },
        f"POST {_P}/merge_trains/merge_requests/{{merge_request_iid}}": {
            "query": {},
            "body": {"type": "object", "properties": {"sha": {"type": "string"}}},
            "answers": {},
        },
        f"POST {_MR}/notes": _NOTE,
        f"POST {_MR}/discussions/{{discussion_id}}/notes": _NOTE,
        f"GET {_MR}/discussions": _LIST,
        f"GET {_P}/jobs/{{job_id}}/trace": _READ,
        f"GET {_P}/members/all/{{user_id}}": _READ,
    },
    "gitea": {
        f"GET {_R}/collaborators/{{collaborator}}/permission": _READ,
        f"GET {_R}/pulls/{{index}}/reviews/{{id}}/comments": {**_READ, "query": {"page": {}, "limit": {}}},
        f"POST {_R}/pulls/{{index}}/reviews": {
            "query": {},
            "body": {
                "type": "object",
                "properties": {
                    "event": {"enum": ["APPROVED", "COMMENT", "REQUEST_CHANGES", "PENDING"]},
                    "body": _STRING,
                    "commit_id": _STRING,
                    "comments": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "path": _STRING,
                                "body": _STRING,
                                "new_position": _INTEGER,
                                "old_position": _INTEGER,
                            },
                            "additionalProperties": False,
                        },
                    },
                },
                "additionalProperties": False,
            },
            "answers": {},
        },
    },
}

LISTS = {f"GET {_P}/merge_requests", f"GET {_P}/pipelines", f"GET {_MR}/reviewers"}
"""Answered with a list; openapi_v2.yaml states a single record."""

CORRECTED: dict[str, dict[str, Any]] = {
    "github": {},
    "gitlab": {  # openapi_v2.yaml states "string", or a single record
        "assignees": {"type": "array", "items": _PERSON},
        "reviewers": {"type": "array", "items": _PERSON},
        "approved_by": {"type": "array", "items": {"$ref": "#/schemas/API_Entities_Approvals"}},
        "merged_by": {"anyOf": [_PERSON, {"type": "null"}]},
        "merge_user": {"anyOf": [_PERSON, {"type": "null"}]},
        "closed_by": {"anyOf": [_PERSON, {"type": "null"}]},
        "labels": {"type": "array", "items": {"type": "string"}},
        **{name: {"type": "boolean"} for name in ("draft", "has_conflicts", "squash")},
        "source_project_id": {"type": "integer"},
        "target_project_id": {"type": "integer"},
        "state": {"enum": ["opened", "closed", "locked", "merged", *_PEOPLES_STATES, None]},
        "merge_status": {"enum": ["unchecked", "checking", "can_be_merged", "cannot_be_merged"]},
        "head_pipeline": {"anyOf": [{"$ref": "#/schemas/API_Entities_Ci_Pipeline"}, {"type": "null"}]},
        "sha": {"type": ["string", "null"]},
        "permissions": {"type": "object"},
    },
}  # fmt: skip

CORRECTED["gitea"] = {  # the kinds of states are in the prose only
    "status": {"enum": ["pending", "success", "error", "failure", "warning", "skipped"]},
    "state": {
        "enum": ["open", "closed", "APPROVED", "REQUEST_CHANGES", "COMMENT", "PENDING", "REQUEST_REVIEW"]
    },
}

_NAMES: dict[str, Any] = {"type": ["string", "array"], "items": {"type": "string"}}
ASKED: dict[str, dict[str, Any]] = {
    "github": {},
    "gitlab": dict.fromkeys(("labels", "add_labels", "remove_labels"), _NAMES),  # also joined by commas
}
ASKED["gitea"] = {}
"""Corrections of the fields of requests."""

KEPT = {
    "github": {
        *("allow_merge_commit", "allow_squash_merge", "allow_rebase_merge", "permissions", "full_name"),
        *("requested_reviewers", "requested_teams", "enforcement_level", "assignees", "head_sha"),
        *("details_url", "target_url", "clone_url", "archived", "login", "pull_request", "auto_merge"),
        *("mergeable_state", "rebaseable", "draft", "body", "parameters", "type", "errors"),
        *("required_status_checks", "required_pull_request_reviews", "required_approving_review_count"),
        *("strict", "contexts", "checks", "dismiss_stale_reviews", "commit_id", "submitted_at", "name"),
        *("color", "strict_required_status_checks_policy", "context", "protection", "enabled", "default"),
        *("description", "closed_by"),
    },
    "gitlab": {
        *("id", "iid", "project_id", "title", "description", "state", "created_at", "updated_at"),
        *("merged_by", "merge_user", "merged_at", "closed_at", "target_branch", "source_branch", "author"),
        *("assignees", "reviewers", "source_project_id", "target_project_id", "labels", "draft"),
        *("merge_status", "sha", "work_in_progress", "detailed_merge_status", "merge_commit_sha"),
        *("squash_commit_sha", "web_url", "squash", "has_conflicts", "changes_count", "head_pipeline"),
        *("diff_refs", "merge_error", "user", "rebase_in_progress", "base_sha", "head_sha", "start_sha"),
        *("username", "name", "status", "ref", "target_url", "allow_failure", "pipeline_id", "approved"),
        *("approved_by", "approved_at", "default", "user_has_approved", "user_can_approve"),
        *("path_with_namespace", "default_branch", "archived", "http_url_to_repo", "merge_method"),
        *("squash_option", "permissions", "commit", "protected", "url", "approvals_before_merge"),
        *("merge_trains_enabled", "only_allow_merge_if_pipeline_succeeds", "push_access_levels"),
        *("closed_by", "merge_access_levels", "access_level", "allow_force_push", "merge_requests_events"),
        *("pipeline_events", "push_events"),
    },
}
KEPT["gitea"] = {
    *("id", "number", "html_url", "title", "body", "state", "draft", "user", "head", "base", "labels"),
    *("login", "label", "ref", "sha", "repo", "assignees", "requested_reviewers"),
    *("requested_reviewers_teams", "name", "created_at", "updated_at", "closed_at", "merged_at"),
    *("merge_commit_sha", "merged", "merged_by", "mergeable", "full_name", "clone_url", "default_branch"),
    *("archived", "allow_merge_commits", "color", "allow_squash_merge", "allow_rebase", "permissions"),
    *("pull", "push", "admin", "dismissed", "stale", "commit_id", "submitted_at", "context", "status"),
    *("description", "target_url", "protected", "commit", "required_approvals", "enable_status_check"),
    *("status_check_contexts", "branch_name", "rule_name", "effective_branch_protection_name"),
    *("block_on_outdated_branch", "dismiss_stale_approvals", "official"),
}
"""Optional fields that the test forge sends; those of requests are all kept."""
