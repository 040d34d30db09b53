"""Inboxes in any order of events, held against a model (tests/message_model.py) after each of them.

Time stands still unless the machine lets it pass: the steps read it from a key. The model foretells each
answer;
a message that vanishes must be explained by its time or a full inbox, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from coordination.backend.client import Profile, connect
from coordination.backend.keys import LUA_NAMES
from coordination.errors import NotFound
from coordination.messages import Limits, Message, MessageBus, Position, Taken
from tests.contracts.conftest import CLOCK
from tests.examples import examples
from tests.message_model import Box, ModelMessage

TO = "repo:api"
READERS = st.sampled_from(["ann", "bob", "cy"])
ROOM = 6
KEEP, IDLE = timedelta(hours=1), timedelta(seconds=30)
RETRY, TTL = timedelta(seconds=1), timedelta(seconds=20)
LIMITS = Limits(ttl=TTL, inbox_limit=ROOM, inbox_keep=KEEP, idle=IDLE, deliveries=2, retry=RETRY)
MS = timedelta(milliseconds=1)
PARTS = ("stream", "ready", "pending", "deliveries", "lanes", "facts")


class AnyHistory(RuleBasedStateMachine):
    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        self.redis = client
        self.now = 1_700_000_000_000
        self.processes = [MessageBus(client, "test", sender=name, limits=LIMITS) for name in ("a", "a", "b")]
        self.bus = self.processes[0]
        self.payloads = 0
        self.numbered: dict[str, int] = {}
        """Sender → the last number that it gave itself."""
        self.known: list[tuple[int, int]] = []
        """Process and number of what was sent so recently that it is known."""
        self.copies: list[Message] = []
        """Messages as they were handed out: readers that crashed and came back use theirs."""
        self.positions: dict[str, Position] = {}
        self.done: list[int] = []
        self.with_effect: list[int] = []
        self.epochs: list[str] = []
        self.begin()

    def begin(self) -> None:
        self.redis.flushall()
        self.pass_time(MS)
        self.box = Box(LIMITS.deliveries, IDLE // MS, RETRY // MS)
        self.done, self.with_effect, self.known = [], [], []
        self.epochs.append(self.bus.register(TO))
        assert len(set(self.epochs)) == len(self.epochs), "an epoch came again"

    def pass_time(self, by: timedelta) -> None:
        self.now += by // MS
        self.redis.mset({CLOCK[0]: self.now // 1000, CLOCK[1]: self.now % 1000 * 1000})

    # The content of Redis

    def key(self, part: str) -> str:
        return f"test:{LUA_NAMES['inbox']}{part}:{TO}"

    def offsets(self) -> tuple[list[int], list[int]]:
        """Numbers of the messages that are ready, and of those in flight."""
        with self.redis.pipeline(transaction=False) as pipe:
            for part in ("ready", "pending"):
                pipe.zrange(self.key(part), 0, -1)
            ready, pending = pipe.execute()
        return [int(one.split(" ")[0]) for one in ready], [int(one.split(" ")[0]) for one in pending]

    def follow(self, *, crowded: int = 0) -> None:
        """Messages may vanish when they are over, or as the least of a full inbox."""
        ready, pending = self.offsets()
        there = {*ready, *pending}
        for letter in [one for one in self.box.there() if one.offset not in there]:
            if letter.over_at > self.now:
                ready = [one for one in self.box.of("ready") if one.offset in there or one is letter]
                least = [one for one in ready if one.priority == ready[-1].priority]
                assert crowded, f"{letter} vanished"
                assert len(ready) > ROOM, f"{letter} vanished though there was room"
                assert letter is least[0], f"{letter} had to go before {least[0]}"
                crowded -= 1
            assert letter.state == "ready", f"{letter} vanished out of somebody's hand"
            self.box.lose(letter.offset, self.now)

    # Sending

    @rule(
        process=st.integers(0, 2),
        priority=st.sampled_from([0, 0, 0, 1, -1]),
        ttl=st.sampled_from([..., None]),
        ack=st.sampled_from([True, True, True, False]),
        own=st.booleans(),
        times=st.sampled_from([1, 1, 2, 5]),
    )
    def somebody_sends(self, process: int, priority: int, ttl, ack: bool, own: bool, times: int) -> None:
        for _ in range(times):
            self.send(process, priority, ttl, ack, own)

    def send(self, process: int, priority: int, ttl, ack: bool, own: bool) -> None:
        bus, sender = self.processes[process], "aab"[process]
        self.payloads += 1
        number = None
        if own:
            number = self.numbered[sender] = self.numbered.get(sender, 0) + 1
            self.known.append((process, number))
        how = {"priority": priority, "ttl": ttl, "ack": ack, "sequence": number}
        message_id = bus.send(TO, "note", self.payloads, **how)
        assert message_id.startswith(f"{sender}/")
        lasts = KEEP if ttl is None else TTL
        over_at = self.now + lasts // MS
        number = self.box.seq + 1
        self.box.add(
            ModelMessage(number, self.payloads, sender, priority, over_at, ttl is ..., wants_ack=ack)
        )
        self.follow(crowded=1)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def somebody_sends_again_what_was_sent(self, data: st.DataObject) -> None:
        process, number = data.draw(st.sampled_from(self.known))
        again = self.processes[process].send(TO, "note", "again", sequence=number)
        assert again == f"{'aab'[process]}/{number}"
        self.follow()

    # Receiving

    @rule(
        reader=READERS,
        limit=st.sampled_from([0, 1, 2, 20]),
        resumes=st.booleans(),
        knows=st.sampled_from(["", "", "all", "half"]),
    )
    def somebody_takes(self, reader: str, limit: int, resumes: bool, knows: str = "") -> None:
        """Ahead, it knows what it has in hand, or half of it where the answer that told it was lost."""
        since = self.positions.get(reader) if resumes else None
        self.box.take_over(self.now)
        held = [message for message in self.copies if self.owns(message) and message.reader == reader]
        known = held[: len(held) // 2] if knows == "half" else held
        if knows:
            self.box.free_unknown(reader, {message.offset for message in known})
        foretold = self.box.eligible(reader, self.now)[:limit]
        if knows:
            self.took(reader, since, foretold, self.bus.take_ahead(TO, reader, limit, since, known), begun=1)
        else:
            self.took(reader, since, foretold, self.bus.take(TO, reader, limit, since), begun=len(foretold))

    def took(
        self, reader: str, since: Position | None, foretold: list[ModelMessage], taken: Taken, begun: int
    ) -> None:
        given = [(message.offset, message.payload, message.deliveries) for message in taken.messages]
        assert given == [(one.offset, one.payload, one.failed + 1) for one in foretold]
        self.box.hand_out(foretold, reader, self.now, begun)
        self.copies += [message for message in taken.messages if message.wants_ack]
        self.done += [message.payload for message in taken.messages if not message.wants_ack]
        self.follow()
        self.is_told(taken, since)
        self.positions[reader] = taken.position

    def is_told(self, taken: Taken, since: Position | None) -> None:
        box = self.box
        assert taken.position == Position(self.epochs[-1], box.seq, box.trimmed)
        if since is not None and since.epoch != self.epochs[-1]:
            assert (taken.recovered, taken.trimmed) == (False, 0)
            return
        known = box.told if since is None else since.trimmed
        box.told = max(box.told, known)
        assert (taken.recovered, taken.trimmed) == (box.trimmed == known, box.trimmed - known)

    @precondition(lambda self: self.copies)
    @rule(data=st.data(), effect=st.booleans())
    def somebody_acknowledges(self, data: st.DataObject, effect: bool) -> None:
        message = self.any_copy(data)
        mine = self.owns(message)
        effects_of = (lambda pipe: pipe.rpush("effects", message.payload)) if effect else None

        assert self.bus.ack(message, effects_of) is mine
        if mine:
            self.box.letters[message.offset].state = "done"
            self.done.append(message.payload)
            self.with_effect += [message.payload] if effect else []
        self.follow()

    @precondition(lambda self: self.copies)
    @rule(data=st.data())
    def a_reader_acknowledges_several_and_begins_the_next(self, data: st.DataObject) -> None:
        one = self.any_copy(data)
        several = [m for m in self.copies if m.reader == one.reader][-4:]
        *done, begun = several
        lost = {m.offset for m in done if not self.owns(m)}

        assert {m.offset for m in self.bus.ack_all(done, begun)} == lost
        for message in {m.offset: m for m in done if self.owns(m)}.values():
            self.box.letters[message.offset].state = "done"
            self.done.append(message.payload)
        letter = self.box.letters.get(begun.offset)
        if letter and letter.state == "held" and letter.reader == begun.reader:
            letter.begun = True
        self.follow()

    @precondition(lambda self: self.copies)
    @rule(data=st.data())
    def somebody_refuses(self, data: st.DataObject) -> None:
        message = self.any_copy(data)
        mine, letter = self.owns(message), self.box.letters.get(message.offset)
        back = {one.offset for one in self.box.of("held") if letter and one.sender == letter.sender}

        assert set(self.bus.nack(message, "cannot")) == (back if mine else set())
        if mine and letter:
            self.box.refuse(letter, self.now)
        self.follow()

    @precondition(lambda self: self.copies)
    @rule(data=st.data())
    def somebody_is_still_at_it(self, data: st.DataObject) -> None:
        message = self.any_copy(data)
        mine = self.owns(message)
        assert self.bus.extend(message) == (() if mine else (message,))
        if mine:
            self.box.letters[message.offset].due = self.now + self.box.idle_ms
        self.follow()

    @precondition(lambda self: self.copies)
    @rule(data=st.data())
    def somebody_hands_back(self, data: st.DataObject) -> None:
        message = self.any_copy(data)
        mine = self.owns(message)
        self.bus.hand_back(message)
        if mine:
            self.box.free(message.sender)
        self.follow()

    @rule(reader=READERS)
    def a_reader_begins_anew(self, reader: str) -> None:
        held = [one for one in self.box.of("held") if one.reader == reader]
        assert self.bus.hand_back_all(TO, reader) == len(held)
        for sender in {one.sender for one in held}:
            self.box.free(sender)
        self.follow()

    @precondition(lambda self: self.box.of("dead"))
    @rule(data=st.data(), ttl=st.sampled_from([None, TTL]))
    def a_dead_letter_is_sent_again(self, data: st.DataObject, ttl: timedelta | None) -> None:
        letters = {letter.message.offset: letter for letter in self.bus.dead(TO)}
        old = data.draw(st.sampled_from(self.box.of("dead")))
        assert self.bus.resend(letters[old.offset].id, ttl=ttl) == letters[old.offset].message.id
        old.state = "gone"
        over_at = self.now + (ttl or KEEP) // MS
        fresh = replace(old, offset=self.box.seq + 1, state="ready", over_at=over_at, mortal=ttl is not None)
        self.box.add(replace(fresh, handed=0, failed=0, reader="", begun=False))
        self.follow(crowded=1)

    # Time and trouble

    @rule(by=st.sampled_from([RETRY, 2 * RETRY, 4 * RETRY, TTL, IDLE - MS, IDLE, KEEP]))
    def time_passes(self, by: timedelta) -> None:
        """A reader with a message in hand that does not extend it counts as dead from then on."""
        self.pass_time(by)

    @precondition(lambda self: self.box.of("held"))
    @rule(reader=READERS)
    def whoever_has_something_dies_and_another_comes(self, reader: str) -> None:
        self.pass_time(IDLE)
        self.somebody_takes(reader, 2, resumes=False)

    @rule()
    def somebody_sweeps(self) -> None:
        self.box.take_over(self.now)
        over = [one for one in self.box.of("ready") if one.over_at <= self.now]

        swept = self.bus.sweep()

        self.follow()
        assert {one.state for one in over} <= {"gone"}, "swept and still there"
        assert swept.trimmed + swept.expired == len(over)
        self.known.clear()  # it may have been so long ago that nobody remembers

    @rule()
    def somebody_looks(self) -> None:
        seen = self.bus.peek(TO)
        self.follow()
        there = {
            one.offset: one for one in self.box.there() if one.state != "ready" or one.over_at > self.now
        }
        assert [message.offset for message in seen] == sorted(there)
        for message in seen:
            one = there[message.offset]
            found = (message.payload, message.reader, message.deliveries)
            assert found == (one.payload, one.reader, one.failed + 1)

    @precondition(lambda self: self.box.seq > 3)
    @rule()
    def the_server_loses_its_data(self) -> None:
        self.redis.flushall()
        self.pass_time(MS)
        with pytest.raises(NotFound):
            self.bus.send(TO, "note", "to nobody")
        self.begin()
        self.copies = self.copies[-5:]

    @precondition(lambda self: self.box.seq > 3)
    @rule()
    def the_recipient_is_forgotten(self) -> None:
        assert self.bus.forget(TO)
        assert not [part for part in PARTS if self.redis.exists(self.key(part))], "something of it is left"
        self.begin()

    def any_copy(self, data: st.DataObject) -> Message:
        """Mostly one that is in hand."""
        mine = [message for message in self.copies if self.owns(message)]
        return data.draw(st.sampled_from(mine[-6:] * 3 + self.copies[-6:]))

    def owns(self, message: Message) -> bool:
        return self.box.owns((message.offset, message.reader, message.delivery)) and (
            self.box.letters[message.offset].payload == message.payload
        )

    # Always

    @invariant()
    def what_is_there_is_what_should_be(self) -> None:
        box = self.box
        ready, pending = self.offsets()
        assert sorted(ready) == sorted(one.offset for one in box.of("ready"))
        assert sorted(pending) == sorted(one.offset for one in box.of("held", "paused"))
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.xrange(self.key("stream"))
            pipe.hgetall(self.key("lanes"))
            pipe.lrange("effects", 0, -1)
            entries, lanes, effects = pipe.execute()
        stream = [int(at.partition("-")[0]) for at, _ in entries]
        assert stream == sorted(one.offset for one in box.there())
        standing = self.bus.standing(TO)
        counts = (standing.trimmed, standing.expired, standing.dead)
        assert counts == (box.trimmed, box.expired, box.dead)
        self.a_senders_messages_are_in_one_hand(
            {name: int(value.split(" ")[0]) for name, value in lanes.items()}
        )
        assert sorted(self.done) == sorted(set(self.done)), "acknowledged twice"
        assert effects == [str(payload) for payload in self.with_effect], "an effect not once"

    def a_senders_messages_are_in_one_hand(self, lanes: dict[str, int]) -> None:
        for sender in ("a", "b"):
            assert len(self.box.lane(sender)) <= 1
            of_sender = [one for one in self.box.of("held", "paused") if one.sender == sender]
            assert lanes.get(sender, 0) == len(of_sender)

    @invariant()
    def the_dead_can_be_read(self) -> None:
        dead = {letter.message.offset: letter.message.payload for letter in self.bus.dead(TO)}
        assert dead == {one.offset: one.payload for one in self.box.of("dead")}

    def teardown(self) -> None:
        """Whatever happened: who comes back gets all that is not over, and then nothing is left."""
        self.pass_time(IDLE)
        while there := self.box.there():
            self.somebody_takes("last", 20, resumes=False)
            for one in there:
                if one.state == "held":
                    held = next(m for m in reversed(self.copies) if m.offset == one.offset and self.owns(m))
                    assert self.bus.ack(held)
                    one.state = "done"
                    self.done.append(one.payload)
            self.pass_time(8 * RETRY)
        self.what_is_there_is_what_should_be()
        left = {part for part in PARTS if self.redis.exists(self.key(part))}
        assert left <= {"facts", "stream"}, "something is left over"


@pytest.fixture
def client(redis_url: str, our_clock: None) -> Iterator[redis.Redis]:
    with connect(redis_url, Profile.COMMAND) as found:
        yield found


def test_an_inbox_keeps_its_promises_in_any_history(client: redis.Redis) -> None:
    run_state_machine_as_test(
        partial(AnyHistory, client), settings=settings(max_examples=examples(60), stateful_step_count=50)
    )
