"""A page in a real browser is a recipient: it shows its token as a subprotocol, reads,
acknowledges, answers.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.gateways import Gateway
from tests.ports import free_port
from tests.testbed import Testbed
from tests.waiting import until

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
PAGE = """<script>
const socket = new WebSocket("%s", ["coord.v1", "bearer.%s"]);
const say = (frame) => socket.send(JSON.stringify(frame));
socket.onopen = () => say({resume: null});
socket.onmessage = ({data}) => {
  const {message} = JSON.parse(data);
  if (!message) return;
  say({send: {to: message.from, type: "answer", payload: {got: message.payload}, seq: Date.now()}});
  say({ack: message.id});
};
</script>"""


@contextmanager
def page_at(port: int, text: str) -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{port}"
        server.shutdown()


@contextmanager
def browser(page: str, profile: Path) -> Iterator[None]:
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}")
    process = subprocess.Popen(
        [BROWSER, *options, page], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@pytest.mark.skipif(BROWSER is None, reason="no browser here")
def test_a_page_gets_a_message_and_answers_it(testbed: Testbed, tmp_path: Path):
    testbed.write()
    port = free_port()
    gateway = Gateway(testbed, "--origin", f"http://127.0.0.1:{port}")
    token, bus = gateway.token("person:ann"), gateway.bus("repo:api")
    bus.register("repo:api")
    bus.send("person:ann", "question", {"text": "wie geht's?"})

    with page_at(port, PAGE % (gateway.address, token)) as page, browser(page, tmp_path / "profile"):
        answer = until(lambda: bus.take("repo:api", "test").messages)[0]
        until(lambda: bus.standing("person:ann").in_hand == 0)

    assert (answer.sender, answer.payload) == ("person:ann", {"got": {"text": "wie geht's?"}})
    assert bus.standing("person:ann").waiting == 0
