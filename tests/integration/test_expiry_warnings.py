"""People are told of keys, credentials and certificates before they expire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coordination.credentials.records import Purpose
from coordination.credentials.references import parse
from coordination.credentials.store import CredentialStore, credentials_file
from coordination.events.records import Event
from coordination.operations.checkup import look_at_machine
from coordination.operations.listening import CertificateUnusable, context_for, look_at_certificate
from coordination.runs.maintenance.notifier import notice_of
from coordination.settings import Settings
from coordination.trust.administration import warnings_of
from coordination.trust.keys import new_key
from coordination.trust.trust_file import Kind, Principal, TrustedKey, TrustFile
from tests.endpoints import Certificates
from tests.integration.test_tls import HERE, settings_of
from workers.trust.worker_trust import ExpiryWatch

NOW = datetime.now(UTC)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


def test_a_certificate_that_is_not_valid_yet_is_refused_with_both_times(certificates: Certificates):
    file = certificates.issue("127.0.0.1", begins=NOW + timedelta(days=1))

    with pytest.raises(CertificateUnusable, match=r"begins at .* here it is") as refused:
        context_for(HERE, settings_of(file))
    assert "NTP" in refused.value.hint
    state = look_at_certificate(settings_of(file), NOW)
    assert state is not None
    assert "begins at" in state.problem


def test_expiry_is_told_once_14_days_before(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    file = certificates.issue("localhost", ends=NOW + timedelta(days=40))
    CredentialStore(credentials_file()).add(
        "npm", parse("env:NPM"), expires=(NOW + timedelta(days=30)).date()
    )
    key = TrustedKey(key=new_key(tmp_path / "key").public_key, valid_until=NOW + timedelta(days=20))
    trust = TrustFile(principals=(Principal(name="lap", kind=Kind.WORKER, keys=(key,)),))
    told: list[str] = []

    def look(days: int) -> list[str]:
        """Return the warnings of a worker of the machine after these days."""
        told.clear()
        settings = settings_of(file)
        watch = ExpiryWatch(settings, tmp_path / "state", lambda: trust, lambda fact, _: told.append(fact))
        assert watch.run_once(NOW + timedelta(days=days)) == told
        return [fact.split()[1] for fact in told]

    assert look(5) == []
    assert look(7) == ["key"]
    assert look(8) == []
    assert list(warnings_of(trust, NOW + timedelta(days=8)))
    assert look(17) == ["credential"]
    assert look(29) == ["certificate"]
    assert look(35) == ["credential"], "it has expired by now"


def test_the_event_of_an_expiry_is_passed_on():
    data = {"host": "lap", "next": "coord credential rotate npm"}
    event = Event(id="1-1", kind="access.expiring", at=NOW, subject="lap", title="npm expires", data=data)

    notice = notice_of(event)

    assert notice is not None
    assert (notice.event, notice.title, notice.next) == ("access.expiring", "npm expires", "coord doctor")


def test_a_credential_that_git_does_not_use_because_the_url_is_http_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    store = CredentialStore(credentials_file())
    store.add("push", parse("env:PUSH"), repos=["api", "web"], purposes=[Purpose.WRITE])
    store.add("npm", parse("env:NPM"), repos=["api"])

    seen = look_at_machine(Settings(), [], tmp_path, over_http=("api",))

    ((fact, remedy),) = seen.credentials
    assert "push for api" in fact
    assert "https" in remedy
