"""Runs are moved to another Redis whole and go on there; damaged and hostile documents are refused."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from coordination.errors import Conflict, CoordinationError, NotFound, UsageError
from coordination.models import Strategy
from coordination.runs.export import import_document
from coordination.runs.export.document import Checksum, document_of
from coordination.runs.export.import_document import adopt, read_document
from coordination.runs.records import Result, TodoState
from coordination.runs.store import RunStore
from tests.engine import BAD, Engine

TODOS = {"A": "r1", "B": ("r1", ["A"]), "C": ("r2", ["B"]), "D": ("r3", ["A"]), "E": ("r2", ["C", "D"])}
NOW = timedelta(0)


@pytest.fixture
def there(store: RunStore) -> Engine:
    """Another namespace, which knows nothing of ours."""
    return Engine(RunStore(store.redis, "elsewhere"))


def text_of(run: Engine, **how: Any) -> bytes:
    return "".join(document_of(run.store, run.run_id, to_import=True, **how)).encode()


def half_done(run: Engine, strategy: Strategy = Strategy.DATAFLOW) -> None:
    """A is done, what follows was dispatched, and the run is paused."""
    run.begin(TODOS, strategy=strategy)
    run.settle(
        run.take("A"), Result(outcome=TodoState.SUCCEEDED, exit_code=0, output='"é"', tip="a", began="b")
    )
    run.pause("test")


def moved(run: Engine, there: Engine) -> None:
    adopt(there.store, read_document(text_of(run), "run.json"), "test")
    there.run_id = run.run_id


def keys_there(there: Engine) -> list[str]:
    return sorted(there.store.redis.scan_iter("elsewhere:*"))


@pytest.mark.parametrize("strategy", [Strategy.LEVELS, Strategy.DATAFLOW])
def test_a_half_done_run_goes_on_where_it_was_moved_to(run: Engine, there: Engine, strategy: Strategy):
    half_done(run, strategy)
    run.store.redis.hset(run.store.keys.run(run.run_id).bundle("r1"), "a", b"\xff\x00")
    before = run.view()
    moved(run, there)

    assert there.view() == before
    assert there.store.redis.hget("elsewhere:commits", "A") == f"a {run.run_id} r1", (
        "a sweep there asks for it"
    )
    there.resume("test")
    there.resend(NOW, 10)
    started = there.drain()
    assert sorted(started) == ["B", "C", "D", "E"]
    view = there.view()
    assert (view.status, view.todos[0]) == ("succeeded", before.todos[0])
    key = there.store.keys.run(there.run_id).bundle("r1")
    assert there.store.redis.execute_command("HGET", key, "a", NEVER_DECODE=True) == b"\xff\x00"
    assert run.view().status == "paused"


def test_what_waits_for_another_try_waits_there_as_long(run: Engine, there: Engine):
    run.begin(TODOS)
    run.retry(run.take("A"), timedelta(hours=1), BAD)
    run.pause("test")
    due = run.store.redis.zscore(run.store.keys.timers, f"{run.run_id} A")
    moved(run, there)

    assert there.store.redis.zscore(there.store.keys.timers, f"{there.run_id} A") == due
    there.resume("test")
    there.fire("A")
    assert there.drain()[0] == "A"


def test_what_it_shares_is_declared_where_nobody_has(run: Engine, there: Engine):
    capacities = {"gpu": 2, "db": 3}
    run.store.declare(capacities)
    there.store.declare({"db": 7})
    run.begin(TODOS, capacities=capacities, more={name: {"resources": ["gpu", "db"]} for name in TODOS})
    run.pause("test")
    moved(run, there)

    found = there.store.redis.hgetall(there.store.keys.locks.capacities)
    assert found == {"resource:gpu": "2", "resource:db": "7"}


@pytest.mark.parametrize("known", ["0", "8999999999999999"])
def test_no_fence_is_given_out_there_that_the_run_has_seen(run: Engine, there: Engine, known: str):
    half_done(run)
    facts = run.store.keys.run(run.run_id).facts
    run.store.redis.hset(facts, "A settled_by", "8888888888888888")
    there.store.redis.set(there.store.keys.fence, known)
    moved(run, there)
    there.resume("test")
    there.resend(NOW, 10)

    assert there.take("B").fence > max(8888888888888888, int(known))


def test_an_ended_run_is_the_same_there_and_is_no_longer_live(run: Engine, there: Engine):
    run.begin(TODOS)
    run.drain(lambda grant: BAD if grant.todo_id == "B" else Result(outcome=TodoState.SUCCEEDED, exit_code=0))
    run.store.redis.xadd(run.store.keys.run(run.run_id).log("B"), {"attempt": 1, "text": "words"})
    moved(run, there)
    ours, theirs = json.loads(text_of(run)), json.loads(text_of(there))

    assert theirs["keys"]["meta"]["hash"].pop("imported_at")
    assert theirs["keys"] == ours["keys"]
    assert there.store.live_runs() == []
    assert [key for key in keys_there(there) if there.store.redis.ttl(key) >= 0] == []


def test_a_document_may_be_formatted_anew_or_compressed_and_has_a_largest_size(run: Engine, there: Engine):
    half_done(run)
    text = text_of(run)
    assert read_document(json.dumps(json.loads(text), indent=2).encode(), "run.json").run_id == run.run_id
    with pytest.raises(UsageError, match=r"run\.json has more than"):
        read_document(gzip.compress(text), "run.json", largest=len(text) - 1)

    adopt(there.store, read_document(gzip.compress(text), "run.json", largest=len(text)), "test")
    there.run_id = run.run_id
    assert there.view() == run.view()


def sealed(document: dict[str, Any]) -> bytes:
    """With the checksum of whatever it now says: what somebody does who means harm, or writes one by hand."""
    checksum = Checksum()
    for name, value in document.items():
        if name not in ("keys", "shared", "checksum"):
            checksum.add(name, value)
    for key, held in document["keys"].items():
        for kind, entries in held.items():
            for name, value in entries.items():
                checksum.add(key, kind, name, value)
    for name, value in document["shared"].items():
        checksum.add("shared", name, value)
    return json.dumps({**document, "checksum": str(checksum)}).encode()


HASH_OF = ("keys", "children", "hash")
CHECKSUM = "its checksum does not match"


def to(*path: Any, seal: bool = True) -> Callable[[bytes], bytes]:
    """Change a document. `path`: names, then the value that is put there."""
    *above, last, value = path

    def change(text: bytes) -> bytes:
        document = held = json.loads(text)
        for name in above:
            held = held[name]
        held[last] = value
        return sealed(document) if seal else json.dumps(document).encode()

    return change


REFUSED: Mapping[str, tuple[Callable[[bytes], bytes], type[CoordinationError], str]] = {
    "not json": (lambda _: b"A: r1", UsageError, "run.json is not JSON: Expecting value"),
    "nothing": (lambda _: b"", UsageError, "run.json is not JSON: Expecting value"),
    "bytes": (lambda _: b"\x00\xff\xfe", UsageError, "run.json is not JSON: "),
    "another document": (lambda _: b'{"a": 1}', UsageError, "run.json is not an exported run"),
    "a list": (lambda _: b"[1]", UsageError, "run.json is not an exported run"),
    "cut short": (lambda text: text[:-40], UsageError, "run.json is an exported run that is cut short: "),
    "cut in the middle": (lambda text: text[: len(text) // 2], UsageError,
    "an exported run that is cut short"),
    "compressed and cut short": (lambda text: gzip.compress(text)[:-100], UsageError, "cannot be unpacked: "),
    "another format": (to("coord_run", 1), UsageError, "is of format 1, and this coord reads format 2"),
    "a changed header": (to("status", "failed", seal=False), UsageError, CHECKSUM),
    "a changed state": (to("keys", "state", "hash", "B", "succeeded", seal=False), UsageError, CHECKSUM),
    "a changed timer": (to("shared", "timers", "B", 1, seal=False), UsageError, CHECKSUM),
    "no checksum": (to("checksum", None, seal=False), UsageError, CHECKSUM),
    "another graph": (to(*HASH_OF, "A", "B"), Conflict, "do not match the hash of its graph"),
    "a state that is none": (to("keys", "state", "hash", "B", "odd"), UsageError, "'odd' is not"),
    "a status that is none": (to("keys", "meta", "hash", "status", "x"), UsageError, "'x' is not"),
    "a key that is none": (to("keys", "other", {"hash": {"a": "b"}}), UsageError, "other is not a key"),
    "another type": (to("keys", "ready", {"hash": {"a": "b"}}), UsageError, "or has another type"),
    "a log of nobody": (to("keys", "log:X", {"stream": {"1-1": {"a": "b"}}}), UsageError, "log:X is"),
    "an odd value": (to(*HASH_OF, "A", ["B"]), UsageError, "children has an invalid value"),
    "no state": (to("keys", "state", {"hash": {}}), UsageError, "it has no state"),
    "an odd id": (to("run_id", "a:b c"), UsageError, "'a:b c' cannot be a run's id"),
    "a timer of nobody": (to("shared", "timers", "X", 1), UsageError, "its todos are not the same"),
    "a todo without a place": (to("keys", "state", "hash", "X", "failed"), UsageError, "same everywhere"),
    "a moment that is none": (to("shared", "timers", "B", float("inf")), UsageError, "Infinity is no"),
    "a moment beyond all": (
        lambda text: to("shared", "timers", "B", 0)(text).replace(b'"B": 0}', b'"B": 1e999}'), UsageError,
        CHECKSUM,
    ),
    "an endless score": (to("keys", "ready", {"zset": {"B": 10**400}}), UsageError, "ready has an invalid"),
    "half a surrogate": (to("keys", "facts", "hash", "A host", "\ud800"), UsageError, "surrogates"),
    "no base64": (to(*HASH_OF, "A", {"base64": "§"}), UsageError, "ASCII"),
    "a fence for ever": (to("keys", "facts", "hash", "A fence", "9" * 30), UsageError, "a fence larger"),
    "no capacity": (to("capacities", {"gpu": -1}), UsageError, "-1 of 'gpu' is not a capacity"),
    "a resource of another name": (to("capacities", {"a\nb": 1}), UsageError, "is not a capacity"),
    "an id beyond all": (to("keys", "events", {"stream": {f"{2**64}-0": {"a": "b"}}}), UsageError,
                         "events has an invalid value"),
    "a run that went on": (to("keys", "meta", "hash", "status", "running"), Conflict,
                           "was running when it was exported: this document can only be inspected"),
    "a todo that ran": (to("shared", "holders", "B", "12"), Conflict, "and 1 todo ran: B"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "kind", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_a_whole_run_is_refused(
    run: Engine, change: Callable[[bytes], bytes], kind: type[CoordinationError], words: str
):
    half_done(run)
    with pytest.raises(kind) as refused:
        read_document(change(text_of(run)), "run.json")
    assert words in refused.value.message
    assert refused.value.hint


def test_a_document_that_unpacks_to_gigabytes_is_refused_before_it_fills_the_memory(tmp_path: Path):
    file = tmp_path / "bomb.json.gz"
    zeros = gzip.compress(b"0" * (1 << 24))
    file.write_bytes(gzip.compress(b'{"coord_run": 1, "x": "') + 128 * zeros)
    code = "import resource, sys; from pathlib import Path; from coordination.errors import UsageError; "
    code += "from coordination.runs.export.import_document import load\n"
    code += "resource.setrlimit(resource.RLIMIT_AS, (1536 << 20,) * 2)\n"
    code += "try: load(Path(sys.argv[1]))\nexcept UsageError as error: print(error.message)"
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True)

    assert done.stdout == f"{file} has more than 128 MiB, unpacked: it is not read\n", done.stderr
    assert file.stat().st_size < 4_000_000


def test_a_run_that_is_here_is_not_written_over(run: Engine, there: Engine):
    half_done(run)
    moved(run, there)
    there.resume("test")
    there.store.redis.xadd(there.store.keys.run(there.run_id).events, {"what": "more"})
    before = [there.store.redis.dump(key) for key in keys_there(there)]
    with pytest.raises(Conflict, match=f"run {run.run_id} is here already: it is running") as refused:
        moved(run, there)

    assert refused.value.hint == f"look at it: coord show-run {run.run_id}; nothing was imported"
    assert [there.store.redis.dump(key) for key in keys_there(there)] == before


def test_an_import_that_died_leaves_nothing_and_can_be_repeated(
    run: Engine, there: Engine, monkeypatch: pytest.MonkeyPatch
):
    half_done(run)
    run.store.redis.xadd(run.store.keys.run(run.run_id).log("A"), {"attempt": 1, "text": "words"})
    monkeypatch.setattr(import_document, "ENTRIES_AT_ONCE", 3)
    with monkeypatch.context() as patch:
        patch.setattr(there.store, "adopt", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            moved(run, there)
    left = keys_there(there)
    assert len(left) > 10
    assert [key for key in left if not 0 <= there.store.redis.ttl(key) <= 3600] == []
    there.store.redis.hset(there.store.keys.run(run.run_id).state, "Z", "of a former draft")

    moved(run, there)
    assert there.view() == run.view()
    assert [key for key in keys_there(there) if there.store.redis.ttl(key) >= 0] == []


def test_what_goes_on_is_exported_only_to_look_at(run: Engine):
    run.begin(TODOS)
    grant = run.take("A")
    with pytest.raises(
        Conflict, match=r"is running, and A of it runs: it cannot be moved as it is"
    ) as refused:
        text_of(run)
    assert refused.value.hint == (
        f"pause it first: coord run pause {run.run_id}; when none of its todos is running, export it again; "
        "or export it for inspection only: --look"
    )
    run.pause("test")
    with pytest.raises(Conflict, match="is paused, and A of it runs"):
        text_of(run)
    look = "".join(document_of(run.store, run.run_id)).encode()
    with pytest.raises(
        Conflict,
        match="was paused when it was exported, and 1 todo ran: A: this document can only be inspected",
    ):
        read_document(look, "run.json")
    run.settle(grant)
    assert read_document(text_of(run), "run.json").run_id == run.run_id


def document(run: Engine) -> dict[str, Any]:
    found: dict[str, Any] = json.loads("".join(document_of(run.store, run.run_id)))
    return found


def test_a_document_has_every_key_of_the_run_with_all_that_it_holds(run: Engine):
    run.begin(TODOS).settle(run.take("A"))
    grant = run.take("B")
    redis, keys = run.store.redis, run.store.keys.run(run.run_id)
    redis.xadd(keys.log("A"), {"attempt": 1, "text": "words é\n"})
    redis.hset(keys.bundle("r1"), mapping={"abc": "PACK", "abc since": "def"})
    redis.execute_command("HSET", keys.bundle("r1"), "abc", b"PACK\xff\x00")
    found = document(run)

    there = {key.removeprefix(f"{keys.prefix}:") for key in redis.scan_iter(f"{keys.prefix}:*")}
    assert set(found["keys"]) == there
    assert {f"{keys.prefix}:{name}": next(iter(held)) for name, held in found["keys"].items()} == {
        key: redis.type(key) for key in redis.scan_iter(f"{keys.prefix}:*")
    }
    assert found["keys"]["meta"]["hash"] == redis.hgetall(keys.meta)
    assert found["keys"]["facts"]["hash"] == redis.hgetall(keys.facts)
    assert found["keys"]["events"]["stream"] == dict(redis.xrange(keys.events))
    assert [*found["keys"]["log:A"]["stream"].values()] == [{"attempt": "1", "text": "words é\n"}]
    assert found["keys"]["bundle:r1"]["hash"] == {"abc": {"base64": "UEFDS/8A"}, "abc since": "def"}
    assert found["shared"] == {"timers": {}, "holders": {"B": str(grant.fence)}}
    run.run_id = "20200101-000000-abcd"
    with pytest.raises(NotFound, match="there is no run"):
        document(run)
