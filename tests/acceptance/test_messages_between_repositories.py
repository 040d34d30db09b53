"""People and agents talk between repositories: by command, by tool and by library, on the same inboxes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from coordination import Coord, NotFound
from coordination.backend.client import Profile, connect
from coordination.messages import Limits, MessageBus
from tests.agent import Agent, agent_of
from tests.testbed import COORD, Testbed

FILE = "repos: [{name: api, path: api}, {name: web, path: web}]\n"


@pytest.fixture
def laptop(testbed: Testbed, redis_url: str) -> Testbed:
    testbed.file.write_text(FILE)
    testbed.env = {"COORD_REDIS_URL": redis_url}
    return testbed


@pytest.fixture
def bus(redis_url: str) -> Iterator[MessageBus]:
    with connect(redis_url, Profile.COMMAND) as redis:
        yield MessageBus(redis, "coord", sender="test", limits=Limits(inbox_limit=3, deliveries=1))


@pytest.fixture
def ai(laptop: Testbed, redis_url: str) -> Iterator[Agent]:
    with agent_of(laptop.file, redis_url) as connected:
        yield connected


def test_a_message_waits_in_a_folder_of_its_own_until_it_is_acknowledged(testbed: Testbed) -> None:
    testbed.file.write_text(FILE)

    sent = testbed.coord(
        "message", "send", "api", "the floor moves on Monday", "--type", "warning", "--reply-to", "web"
    )
    (listed,) = testbed.coord("message", "list", "api", "--json").json

    assert (sent.code, listed["id"]) == (0, sent.out.strip())
    assert (listed["to"], listed["type"], listed["payload"]) == (
        "repo:api",
        "warning",
        "the floor moves on Monday",
    )
    assert (listed["deliveries"], listed["reader"], listed["reply_to"]) == (1, None, "repo:web")
    assert "1 message of repo:api acknowledged" in testbed.coord("message", "ack", "api", listed["id"]).err
    assert "there is no message" in testbed.coord("message", "list", "api").err


def test_people_see_who_wrote_and_acknowledge_by_the_end_of_an_id(laptop: Testbed, bus: MessageBus) -> None:
    laptop.coord("message", "send", "web", "first")
    bus.send("repo:web", "fact", {"version": "2.0"})

    table = laptop.coord("message", "list", "web").out.splitlines()
    done = laptop.coord("message", "ack", "web", table[2].split()[0], "--json")

    assert "first" in table[1]
    assert '{"version":"2.0"}' in table[2]
    assert len(done.json["acknowledged"]) == 1
    assert [message.payload for message in bus.peek("repo:web")] == ["first"]
    assert "messages  1: coord message list web" in laptop.coord("status", "web").out


def test_what_cannot_be_sent_is_refused_with_what_to_do(laptop: Testbed) -> None:
    def refused(*words: str) -> str:
        done = laptop.coord("message", "send", *words)
        assert (done.code, done.out) == (2, "")
        return done.err

    assert "did you mean api?" in refused("apii", "hello")
    assert "coord message register agent:claude" in refused("agent:claude", "hello")
    assert "kinds: repo" in refused("robot:r2", "hello")
    assert "there is nothing to send" in refused("api", "  ")
    assert "needs a duration" in refused("api", "hello", "--ttl", "soon")
    assert "between 1 ms and a year" in refused("api", "hello", "--ttl", "0")
    assert "a type of message" in refused("api", "hello", "--type", "two words")


def test_hints_name_the_command_as_it_is_to_be_typed(laptop: Testbed) -> None:
    def refused(*words: str) -> str:
        done = laptop.coord(*words)
        assert (done.code, done.out) == (2, "")
        return done.err

    assert "coord message register agent:ann" in refused("message", "send", "agent:ann", "hello")
    assert "person:ann" in refused("message", "send", "ann", "hello")
    assert "message register" in refused("message", "list", "agent:ann")
    assert "see: coord message dead" in refused("message", "resend", "7")
    assert "see: coord message list repo:api" in refused("message", "ack", "api", "7")
    assert (
        "messages to agent:ann are kept from now on" in laptop.coord("message", "register", "agent:ann").err
    )
    assert laptop.coord("message", "send", "agent:ann", "hello").code == 0
    assert laptop.coord("message", "list", "agent:ann", "--format", "{payload}").out == "hello\n"


def test_text_comes_from_standard_input_up_to_a_mebibyte(laptop: Testbed) -> None:
    def sent(text: str) -> tuple[int, str]:
        (laptop.folder / "text").write_text(text)
        shell = laptop.begin(
            command=("sh", "-c", 'coord="$0"; "$coord" message send api - < text', str(COORD))
        )
        done = shell.done()
        return done.code, done.err

    assert sent("x" * (1024 * 1024 - 2))[0] == 0
    code, words = sent("x" * 1024 * 1024)
    assert (code, "1,048,578 bytes" in words) == (2, True)


def test_what_another_reader_has_in_hand_stays_with_it(laptop: Testbed, bus: MessageBus) -> None:
    laptop.coord("message", "send", "api", "yours")
    (held,) = bus.take("repo:api", "busy", 1).messages

    refused = laptop.coord("message", "ack", "api", "all")

    assert (refused.code, "in flight to busy" in refused.err) == (6, True)
    assert "busy" in laptop.coord("message", "list").out
    assert bus.ack(held)


def test_those_that_are_not_acknowledged_stay_in_order_and_untried(laptop: Testbed, bus: MessageBus) -> None:
    bus.register("repo:api")
    ids = [bus.send("repo:api", "note", n) for n in range(3)]

    laptop.coord("message", "ack", "api", ids[1])

    left = bus.take("repo:api", "me", 10).messages
    assert [(message.payload, message.deliveries) for message in left] == [(0, 1), (2, 1)]


def test_what_is_handed_out_once_is_not_handed_out_to_who_acknowledges_another(
    laptop: Testbed, bus: MessageBus
) -> None:
    bus.register("repo:api")
    done = bus.send("repo:api", "note", "done")
    bus.send("repo:api", "note", "once", ack=False)

    assert laptop.coord("message", "ack", "api", done).code == 0

    assert [message.payload for message in bus.take("repo:api", "me", 10).messages] == ["once"]


def test_large_messages_are_acknowledged_together(laptop: Testbed, bus: MessageBus) -> None:
    many = MessageBus(bus.steps.redis, "coord")
    many.register("repo:api")
    for _ in range(12):
        many.send("repo:api", "note", "x" * 1_000_000)

    assert "12 messages of repo:api acknowledged" in laptop.coord("message", "ack", "api", "all").err
    assert bus.peek("repo:api", payloads=False) == ()


def test_no_id_and_ids_that_are_not_there_or_end_alike_acknowledge_nothing(
    laptop: Testbed, bus: MessageBus
) -> None:
    bus.register("repo:api")
    for sequence in (7, 17):
        bus.send("repo:api", "note", sequence, sequence=sequence)

    def refused(*ids: str) -> str:
        done = laptop.coord("message", "ack", "api", *ids, "--json")
        assert (done.code, done.out) == (2, "")
        return done.err

    assert "its id is empty" in refused("")
    assert "there is no message to repo:api with id 'zzz'" in refused("17", "zzz")
    assert "'7' is the end of 2 ids" in refused("7")
    assert [message.payload for message in bus.peek("repo:api")] == [7, 17]


def test_an_acknowledgement_reports_once_how_many_messages_were_trimmed(
    laptop: Testbed, bus: MessageBus
) -> None:
    bus.register("repo:api")
    for n in range(5):
        bus.send("repo:api", "note", n)

    first = laptop.coord("message", "ack", "api", "all")
    second = laptop.coord("message", "ack", "api", "all")

    assert "3 messages of repo:api acknowledged" in first.err
    assert "2 messages discarded unread" in first.err
    assert "discarded" not in second.err


def test_a_dead_letter_is_listed_with_why_and_sent_again(laptop: Testbed, bus: MessageBus) -> None:
    bus.register("repo:api")
    bus.send("repo:api", "note", "poison", ttl=timedelta(minutes=1))
    (message,) = bus.take("repo:api", "me", 1).messages
    bus.nack(message, "cannot be read")

    (dead,) = laptop.coord("message", "dead", "--json").json
    again = laptop.coord("message", "resend", dead["id"], "--json")

    assert (dead["payload"], dead["why"], dead["to"]) == ("poison", "cannot be read", "repo:api")
    assert again.code == 0
    assert again.json == {"id": dead["id"], "to": "repo:api"}
    assert [message.payload for message in bus.peek("repo:api")] == ["poison"]
    assert laptop.coord("message", "dead", "--json").json == []


def test_agents_talk_by_tools(ai: Agent, laptop: Testbed) -> None:
    assert "coord message register" in ai.refused("coord_message_list", to="agent:claude")
    ai.call("coord_message_register", to="agent:claude")
    assert ai.call("coord_message_list", to="agent:claude")["result"] == []
    laptop.coord("message", "send", "agent:claude", "what is the version?", "--reply-to", "api")
    (asked,) = ai.call("coord_message_list", to="agent:claude")["result"]

    ai.call("coord_message_send", to=asked["reply_to"], text="2.0", priority=1)
    done = ai.call("coord_message_ack", to="agent:claude", ids=asked["id"])

    assert done == {"to": "agent:claude", "acknowledged": [asked["id"]], "trimmed": 0}
    assert [(m["to"], m["payload"]) for m in ai.call("coord_message_list")["result"]] == [("repo:api", "2.0")]
    assert "did you mean api?" in ai.refused("coord_message_send", to="apii", text="2.0")


def test_the_library_has_the_bus_and_its_figures(laptop: Testbed, redis_url: str) -> None:
    with Coord(laptop.file, redis_url) as coord:
        coord.messages.register("repo:api")
        coord.messages.send("repo:api", "note", "hello", ttl=None)
        with pytest.raises(NotFound, match="repo:api"):
            coord.messages.send("repo:apii", "note", "hello")

        assert coord.stats()["messages"] == {
            "recipients": 1, "waiting": 1, "in_hand": 0, "trimmed": 0, "expired": 0, "dead": 0,
        }  # fmt: skip
