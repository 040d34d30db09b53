"""Values of `env` that look like secrets are recognised; names, paths, placeholders and settings are not."""

from __future__ import annotations

import time

import pytest

from coordination.credentials.detection import looks_secret

RANDOM = "9f86d081884c7d659a2feaa0c55ad015"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X", "ghp_16C7e42F292c6912E7710c838347Ae178B4a"),
        ("X", "github_pat_11ABCDEFG0" + "abcDEF1234" * 7),
        ("X", "glpat-Ab3dEf6hIj9lMn2pQr5t"),
        ("X", "AKIAIOSFODNN7EXAMPLE"),
        ("X", "xoxb-17653672481-19874698323-pdFZKVeTuE8sk7oOHcbrzqgy"),
        ("X", "sk_live_4eC39HqLyjWDarjtT1zdp7dc"),
        ("X", "AIzaSyDaGmWKa4JsXZ-HjGw7ISLn_3namBGewQe"),
        ("X", "npm_Zk3mQ9xT1vB7nR5wC2yL8sD4fG6hJ0pA1eUi"),
        ("X", "sk-ant-api03-Zk3mQ9xT1vB7nR5wC2yL8sD4"),
        ("X", "hf_ZkmQxTvBnRwCyLsDfGhJpAeUiOaSdFgHjKl"),
        ("X", JWT),
        ("X", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl"),
        ("DATABASE_URL", "postgres://app:Xk9vQ2mP7rT4@db.prod.example-corp.net/app"),
        ("DEPLOY_TOKEN", RANDOM),
        ("api_key", "Zk3mQ9xT1vB7nR5wC2yL"),
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzzQ9vTgW2h"),
        ("SENTRY_AUTH_TOKEN", "sntrys_eyJpYXQiOjE3MDB9_Q9xT1vB7nR5wC2yL"),
        ("DB_PASSWORD", "Tr0ub4dor&3"),
        ("SIGNING_SECRET", "8f14e45f-ceea-467f-a8f5-5f1b39e0c7d2"),
    ],
)
def test_a_secret_is_recognised(name: str, value: str):
    assert looks_secret(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NPM_TOKEN", "${NPM_TOKEN}"),
        ("NPM_TOKEN", "$NPM_TOKEN"),
        ("API_KEY", "your-api-key-goes-here-1234"),
        ("API_KEY", "test_key_0123456789abcdef"),
        ("API_KEY", "{{ vault.api_key_0123456789 }}"),
        ("TOKEN", "xxxxxxxxxxxxxxxxxxxxxxxx"),
        ("SECRET", "changeme"),
        ("SECRET_KEY", "not-a-secret-for-development"),
        ("PASSWORD", "postgres"),
        ("PASSWORD", "hunter2"),
        ("CACHE_KEY", RANDOM),
        ("PUBLIC_KEY", RANDOM),
        ("S3_OBJECT_KEY", "builds/2026/11/23/0f3c9b7a1e5d"),
        ("PROJECT_KEY", "COORD1234567890ABCD"),
        ("SSH_KEY", "/home/ci/.ssh/id_ed25519_deploy2026"),
        ("KEY_FILE", "certs/server-2026-key.pem"),
        ("TOKEN_URL", "https://login.example-corp.net/oauth2/v2.0/token"),
        ("MAX_TOKENS", "200000"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("SORT_KEY", "created_at,updated_at,id_2"),
        ("KEY", "123456789012345678901234"),
        ("GIT_COMMIT", RANDOM),
        ("IMAGE", f"registry.example-corp.net/app@sha256:{RANDOM}"),
        ("BUILD_ID", "8f14e45f-ceea-467f-a8f5-5f1b39e0c7d2"),
        ("DATABASE_URL", "postgres://postgres:postgres@localhost:5432/test"),
        ("DATABASE_URL", "postgres://app:Xk9vQ2mP7rT4@db/test"),
        ("REDIS_URL", "redis://127.0.0.1:6379/0"),
        ("PYTHONPATH", "src:tests/helpers/2026"),
        ("ENCRYPTION_KEY", "00000000000000000000000000000001"),
        ("FEATURE_KEY", "enable-new-checkout-flow-v2"),
        ("TRANSLATION_KEYS", "home.title,home.subtitle2"),
        ("AUTH_TOKEN", "command: gh auth token"),
        ("JWT_SECRET", "this is a long sentence with 12 words"),
    ],
)
def test_a_harmless_value_is_not_warned_of(name: str, value: str):
    assert looks_secret(name, value) == ""


def test_a_long_value_is_examined_in_linear_time():
    began = time.process_time()

    assert looks_secret("DATA", "x" * 100_000) == ""
    assert time.process_time() - began < 5  # the square of the length took a minute
