"""Exports of the cache, and the folder from which a Redis without its data gets its values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import redis

from coordination.backend.keys import Keys
from coordination.cache.contexts import Cache
from coordination.cache.copies import CacheMaintenance, TidyReport, export, restore
from coordination.cache.entries import Store
from coordination.cache.names import Limits, Scope
from coordination.errors import CoordinationError, UsageError
from coordination.settings import Settings

HEAD = '{"coord_context": 1}\n'
KEYS = Keys("test").cache


@pytest.fixture
def cache(client: redis.Redis) -> Iterator[Cache]:
    made = Cache(client, "test", Limits(value_bytes=1000))
    yield made
    made.close()


def maintenance(client: redis.Redis, folder: Path) -> CacheMaintenance:
    return CacheMaintenance(client, Settings(namespace="test", cache_folder=str(folder)))


def test_an_export_comes_back_with_hidden_values_and_times(cache: Cache, client: redis.Redis, tmp_path: Path):
    todo = cache.at("P", "R", "T")
    cache.at().set("a", {"ü": [1.5, None]})
    cache.at("P").set("b", "x", timedelta(seconds=100))
    todo.set("own", 1, scope=Scope.TODO)
    todo.delete("b")
    store = Store(client, "test", "blobs")
    store.put("c", b"\x00")
    file = tmp_path / "contexts.jsonl"

    assert export(cache.entries, "test", file) == 4
    client.flushall()
    assert restore(cache.entries, file) == 4

    cache.local.invalidate("ecosystem", ["a"])
    assert {kept.key: kept.scope for kept in todo.list()} == {"a": "ecosystem", "own": "todo"}
    assert todo.get("a") == {"ü": [1.5, None]}
    plan = {kept.key: kept for kept in cache.at("P").list()}
    assert 90 < plan["b"].expires_in_s <= 100
    assert store.get("c") is None
    assert [path.name for path in tmp_path.iterdir()] == ["contexts.jsonl"]
    store.close()


def test_what_is_there_may_stay_as_it_is(cache: Cache, tmp_path: Path):
    file = tmp_path / "contexts.jsonl"
    for key in "ab":
        cache.at().set(key, "old")
    export(cache.entries, "test", file)
    cache.at().set("a", "new")
    cache.at().delete("b")

    assert restore(cache.entries, file, only_new=True) == 1
    assert (cache.at().get("a"), cache.at().get("b")) == ("new", "old")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not an export"),
        ("[]\n", "is not an export"),
        ('{"coord_context": 2}\n', "another version: 2"),
        (HEAD + "not JSON\n", ":2: "),
        (HEAD + '{"context": "ecosystem", "key": "a"}\n', ":2: left_s"),
        (HEAD + '{"context": "ecosystem", "key": "a", "value": 1, "left_s": 0}\n', ":2: left_s"),
        (HEAD + '{"context": "ecosystem", "key": "a\\nb", "value": 1, "left_s": 9}\n', ":2: 'a"),
        (HEAD + '{"context": "a b", "key": "a", "value": 1, "left_s": 9}\n', ":2: 'a b' is not a context"),
        (
            HEAD + '{"context": "bytes/x", "key": "a", "value": 1, "left_s": 9}\n',
            ":2: 'bytes/x' is not a context",
        ),
        (
            HEAD + json.dumps({"context": "ecosystem", "key": "a", "value": "x" * 2000, "left_s": 9}),
            "2,002 bytes",
        ),
        (HEAD + '{"context": "ecosystem", "key": "a", "value": 1, "left_s": 9, "more": 1}\n', ":2: more"),
    ],
)
def test_a_file_with_a_mistake_changes_nothing(
    cache: Cache, client: redis.Redis, tmp_path: Path, text: str, words: str
):
    good = '{"context": "ecosystem", "key": "good", "value": 1, "left_s": 9}\n'
    file = tmp_path / "contexts.jsonl"
    first, rest = text.split("\n", 1) if "\n" in text else (text, "")
    file.write_text(f"{first}\n{rest}\n".rstrip("\n") + "\n" + good)

    with pytest.raises(UsageError, match=re.escape(words)):
        restore(cache.entries, file)
    assert not client.exists(KEYS.expiry)


def test_a_file_that_is_not_there_or_cannot_be_written_is_said(cache: Cache, tmp_path: Path):
    with pytest.raises(UsageError, match="No such file"):
        restore(cache.entries, tmp_path / "none")
    with pytest.raises(CoordinationError, match="cannot be written"):
        export(cache.entries, "test", tmp_path / "none" / "file")


def test_a_redis_without_its_data_gets_the_values_of_the_folder(
    cache: Cache, client: redis.Redis, tmp_path: Path
):
    store = Store(client, "test", "blobs")
    store.put("blob", b"\x00\xff")
    cache.at().set("a", 1)
    cache.at("P").set("same", 1)
    cache.at("P", "R").set("of a run", 1)
    cache.at().set("deleted", 2)
    assert maintenance(client, tmp_path).run_once() == TidyReport(expired=0, restored=0)
    leads = maintenance(client, tmp_path)
    leads.run_once()
    cache.at().delete("deleted")
    leads.run_once()
    client.flushall()
    cache.at().set("a", "newer")

    assert leads.run_once() == TidyReport(expired=0, restored=2)
    assert [kept.key for kept in cache.at("P", "R").list()] == ["a", "same"]
    assert (cache.at().get("a"), cache.at("P").get("same"), store.get("blob")) == ("newer", 1, b"\x00\xff")
    assert leads.run_once() == TidyReport(expired=0, restored=0)
    store.close()


def test_what_was_damaged_on_disk_is_as_what_was_evicted(cache: Cache, client: redis.Redis, tmp_path: Path):
    for key in "abc":
        cache.at().set(key, f"value of {key}")
    maintenance(client, tmp_path).run_once()
    values = {file.read_text(): file for file in (tmp_path / "test.values").iterdir()}
    values['"value of a"'].write_text('"something else"')
    values['"value of b"'].unlink()
    index = tmp_path / "test.index"
    index.write_bytes(b"\xff half a li\n" + index.read_bytes())
    client.flushall()

    assert maintenance(client, tmp_path).run_once().restored == 1
    assert [kept.key for kept in cache.at().list()] == ["c"]


def test_the_folder_keeps_current_values_and_is_written_on_changes(
    cache: Cache, client: redis.Redis, tmp_path: Path
):
    cache.at().set("a", "first")
    leads = maintenance(client, tmp_path)
    leads.run_once()
    leads.run_once()
    written = (tmp_path / "test.index").stat().st_mtime_ns
    leads.run_once()
    assert (tmp_path / "test.index").stat().st_mtime_ns == written

    cache.at().set("a", "second")
    leads.run_once()
    assert [file.read_text() for file in (tmp_path / "test.values").iterdir()] == ['"second"']


def test_a_folder_that_cannot_be_used_is_said(client: redis.Redis, tmp_path: Path):
    (tmp_path / "file").touch()

    with pytest.raises(CoordinationError, match="cache_folder"):
        maintenance(client, tmp_path / "file").run_once()
