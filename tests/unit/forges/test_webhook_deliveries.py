"""Deliveries of webhooks: signed, fresh, and about a repository; which repositories they concern."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from coordination.forges.locate import ForgeAddress
from coordination.forges.models import ForgeType
from coordination.forges.webhooks import FRESH_FOR, Refusal, RequestNews, WebhookDelivery, read_delivery

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SECRET = "a secret of many characters"


def read(body: Any, **headers: str) -> WebhookDelivery | Refusal:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    if not headers:
        signature = hmac.new(SECRET.encode(), raw, hashlib.sha256).hexdigest()
        headers = {"x_hub_signature_256": f"sha256={signature}", "x_github_delivery": "1"}
    return read_delivery({name.replace("_", "-"): one for name, one in headers.items()}, raw, SECRET, NOW)


def test_a_signature_of_standard_webhooks_is_verified_with_its_time():
    """The values are the example of the specification of Standard Webhooks."""
    body, at = b'{"test": 2432232314}', datetime.fromtimestamp(1614265330, UTC)
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,bad v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert read_delivery(headers, body, secret, at) is Refusal.UNREADABLE, "signed; it names no repository"
    assert read_delivery(headers, body, secret, at + FRESH_FOR * 2) is Refusal.OLD
    for changed in ("webhook-id", "webhook-timestamp"):
        assert read_delivery(headers | {changed: "1"}, body, secret, at) is Refusal.FORGED
    assert read_delivery(headers, body + b" ", secret, at) is Refusal.FORGED
    assert read_delivery(headers, body, "no base64", at) is Refusal.FORGED


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"repository": {"full_name": "acme/api"}}, "acme/api"),
        ({"repository": {"full_name": "acme/api", "created_at": "2001-01-01T00:00:00Z"}}, Refusal.OLD),
        (
            {
                "repository": {"full_name": "acme/api", "created_at": 978307200},
                "runs": [{"completed_at": "2026-01-31T11:59:00Z", "started_at": None}],
            },
            "acme/api",
        ),
        ({"repository": {"full_name": "acme/api"}, "updated_at": "2026-01-31 11:59:00 UTC"}, "acme/api"),
        ({"repository": {"full_name": "acme/api"}, "updated_at": "2026-01-30 11:59:00 UTC"}, Refusal.OLD),
        (
            {"repository": {"full_name": "acme/api"}, "a_at": "soon", "b_at": 10**30, "c_at": "2001-01-01"},
            "acme/api",
        ),
        ({"repository": {"full_name": "x" * 1000}}, Refusal.UNREADABLE),
        ({"repository": ["acme/api"]}, Refusal.UNREADABLE),
        (["acme/api"], Refusal.UNREADABLE),
        (b"payload=%7B%7D", Refusal.UNREADABLE),
        (b"[" * 200_000, Refusal.UNREADABLE),
        (b"\xff", Refusal.UNREADABLE),
    ],
)
def test_a_signed_body_is_read_or_refused(body: Any, found: Any):
    delivery = read(body)
    assert (delivery.project if isinstance(delivery, WebhookDelivery) else delivery) == found


def test_headers_without_a_right_signature_are_forged():
    body = {"repository": {"full_name": "acme/api"}}
    right = hmac.new(SECRET.encode(), json.dumps(body).encode(), hashlib.sha256).hexdigest()
    assert isinstance(read(body, x_gitea_signature=right), WebhookDelivery)
    for headers in (
        {"x_github_delivery": "1"},
        {"x_hub_signature_256": right},
        {"x_hub_signature_256": "sha256="},
        {"x_hub_signature": f"sha1={right}"},
        {"x_gitea_signature": "é\udce9"},
        {"x_gitea_signature": "", "x_hub_signature_256": f"sha256={right}"},
        {"x_gitlab_token": ""},
        {"x_gitlab_token": SECRET + "x"},
    ):
        assert read(body, **headers) is Refusal.FORGED


def test_news_concern_a_repository_by_its_forge_its_project_and_the_scope_of_the_secret():
    at = ForgeAddress(
        type=ForgeType.GITHUB, api="https://api.github.com", project="Acme/Api", host="github.com"
    )
    news = RequestNews(forge=ForgeType.GITHUB, project="acme/api")
    assert news.is_about("api", at)
    assert news.model_copy(update={"repos": ("api",), "hosts": ("github.com",)}).is_about("api", at)
    for other in (
        {"project": "acme/web"},
        {"forge": ForgeType.GITEA},
        {"repos": ("web",)},
        {"hosts": ("code.example.com",)},
    ):
        assert not news.model_copy(update=other).is_about("api", at)
