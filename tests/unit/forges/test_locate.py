"""The forge of a repository and its credential: by its url, by its field, never at another host."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from coordination.credentials.records import Credential, Purpose
from coordination.errors import NotAllowed, PlanRefused
from coordination.forges.budget import polling_interval
from coordination.forges.connect import credential_for
from coordination.forges.locate import locate
from coordination.models import Repo

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def located(url: str | None, **forge: str) -> tuple[str, str, str]:
    found = locate(Repo.model_validate({"name": "r", "url": url, "forge": forge or None}))
    return found.type.value, found.api, found.project


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://github.com/o/r.git", ("github", "https://api.github.com", "o/r")),
        ("git@github.com:o/r.git", ("github", "https://api.github.com", "o/r")),
        ("ssh://git@github.com:22/o/r", ("github", "https://api.github.com", "o/r")),
        ("https://user:pw@GitHub.com/o/r/", ("github", "https://api.github.com", "o/r")),
        ("ssh://git@github.corp.example:2222/o/r", ("github", "https://github.corp.example/api/v3", "o/r")),
        ("git@gitlab.com:g/s/r.git", ("gitlab", "https://gitlab.com/api/v4", "g/s/r")),
        ("https://gitlab.corp:8443/g/r", ("gitlab", "https://gitlab.corp:8443/api/v4", "g/r")),
        ("https://codeberg.org/o/r", ("gitea", "https://codeberg.org/api/v1", "o/r")),
    ],
)
def test_an_address_names_the_forge_the_api_and_the_project(url: str, expected: tuple[str, str, str]):
    assert located(url) == expected


def test_the_field_says_the_rest():
    api = "https://code.example/api/v4"
    assert located("git@code.example:g/r.git", type="gitlab") == ("gitlab", api, "g/r")
    assert located("/srv/r.git", type="github", api="http://127.0.0.1:1/api/v3", project="o/r")[2] == "o/r"


@pytest.mark.parametrize(
    ("url", "forge"),
    [
        (None, {}),
        ("/srv/git/r.git", {}),
        ("https://code.example/o/r", {}),
        ("https://github.com/r", {}),
        ("https://github.com/o/../r", {}),
        ("https://github.com:x/o/r", {}),
        ("https://github.com/o/r", {"api": "http://api.example"}),
        ("https://github.com/o/r", {"api": "https://u:p@api.example"}),
        ("https://github.com/o/r", {"api": "ftp://api.example"}),
        ("https://github.com/o/r", {"project": "o/r?x=1"}),
    ],
)
def test_an_address_without_a_forge_or_a_safe_api_is_refused(url: str | None, forge: dict[str, str]):
    with pytest.raises(PlanRefused) as refused:
        located(url, **forge)
    assert refused.value.hint


def credential(name: str, **fields: object) -> Credential:
    return Credential.model_validate(
        {"name": name, "reference": "env:X", "purposes": (Purpose.PR,), **fields}
    )


def test_a_credential_must_name_the_host_or_the_repository():
    address = locate(Repo(name="r", url="https://github.com/o/r"))
    of_host = credential("host", hosts=("github.com",))
    of_repo = credential("repo", repos=("r",))
    assert credential_for([of_repo, of_host], "r", address, NOW) == "host"
    assert credential_for([of_repo], "r", address, NOW) == "repo"
    for unfit in (
        credential("all"),
        credential("other", hosts=("gitlab.com",), repos=("r",)),
        credential("another", repos=("q",)),
        credential("todo", repos=("r",), purposes=(Purpose.TODO,)),
        credential("late", repos=("r",), expires=date(2026, 11, 1)),
    ):
        with pytest.raises(NotAllowed):
            credential_for([unfit], "r", address, NOW)


def test_requests_are_merged_with_the_credential_for_merging_where_there_is_one():
    address = locate(Repo(name="r", url="https://github.com/o/r"))
    opens = credential("opens", repos=("r",))
    merges = credential("merges", repos=("r",), purposes=(Purpose.MERGE,))
    late = merges.model_copy(update={"expires": date(2026, 11, 1)})
    assert credential_for([opens, merges], "r", address, NOW) == "opens"
    assert credential_for([opens, merges], "r", address, NOW, Purpose.MERGE) == "merges"
    assert credential_for([opens], "r", address, NOW, Purpose.MERGE) == "opens"
    with pytest.raises(NotAllowed):
        credential_for([opens, late], "r", address, NOW, Purpose.MERGE)


def test_an_api_at_another_host_gets_only_a_credential_that_names_it():
    foreign = {"type": "github", "api": "https://evil.example/api/v3"}
    address = locate(Repo.model_validate({"name": "r", "url": "https://github.com/o/r", "forge": foreign}))
    for unfit in (credential("repo", repos=("r",)), credential("host", hosts=("github.com",))):
        with pytest.raises(NotAllowed):
            credential_for([unfit], "r", address, NOW)
    assert credential_for([credential("meant", hosts=("evil.example",))], "r", address, NOW) == "meant"


def test_polling_uses_at_most_half_of_the_budget():
    pause = polling_interval(4000, requests=100, calls_each=4)
    assert 100 * 4 * (timedelta(hours=1) / pause) <= 2000
    assert polling_interval(1_000_000, requests=1, calls_each=4) == timedelta(seconds=1)
