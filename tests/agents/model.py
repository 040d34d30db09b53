"""A scripted model on loopback: Anthropic Messages, OpenAI Responses and Chat Completions, streamed.

The first part of the path is the scenario. `fix`: a shell command writes `wrong` to ANSWER.txt, or `right`
after feedback on a failed check; then it says DONE. `ask`: asks a question. A number: the
API answers with this status.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from uuid import uuid4

SHELLS = ("bash", "Bash", "shell", "exec_command", "shell_command", "run_shell_command")
FEEDBACK = "failed after your changes"
Json = dict[str, Any]


@contextmanager
def serving() -> Iterator[str]:
    """Serve the model. Yields its URL, without a scenario."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text") or "" for part in content or [] if isinstance(part, dict))  # type: ignore[attr-defined]


def _answer(scenario: str, body: Json) -> str | tuple[str, Json]:
    """Return a text, or the name of a tool and its arguments."""
    if scenario == "ask":
        return "QUESTION: which database shall I use?"
    messages: Sequence[Json] = body.get("messages") or body.get("input") or []
    tools = {
        (tool.get("function") or tool).get("name"): tool.get("function") or tool
        for tool in body.get("tools") or []
    }
    shell = next((name for name in SHELLS if name in tools), None)
    if shell is None:
        return "I have no shell."
    said = [_text(one.get("content")) for one in messages if one.get("role") == "user"]
    right = any(FEEDBACK in one for one in said)
    command = f"echo {'right' if right else 'wrong'} >ANSWER.txt"
    if any(command in json.dumps(one) for one in messages):  # it has run, in this session
        return "DONE. I changed the file."
    schema = tools[shell].get("input_schema") or tools[shell].get("parameters") or {}
    required = dict.fromkeys(schema.get("required") or [], "text")
    properties = schema.get("properties") or {}
    return shell, {**required, next(key for key in ("command", "cmd") if key in properties): command}


def _anthropic(body: Json, answer: str | tuple[str, Json]) -> Iterator[Json]:
    usage = {"input_tokens": 1000, "output_tokens": 50, "cache_read_input_tokens": 200}
    head = {
        "id": f"msg_{uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model"),
        "content": [],
    }
    if isinstance(answer, str):
        block: Json = {"type": "text", "text": ""}
        delta: Json = {"type": "text_delta", "text": answer}
    else:
        block = {"type": "tool_use", "id": f"toolu_{uuid4().hex}", "name": answer[0], "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(answer[1])}
    stop = "end_turn" if isinstance(answer, str) else "tool_use"
    yield {"type": "message_start", "message": {**head, "stop_reason": None, "usage": usage}}
    yield {"type": "content_block_start", "index": 0, "content_block": block}
    yield {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    yield {"type": "message_delta", "delta": {"stop_reason": stop, "stop_sequence": None}, "usage": usage}
    yield {"type": "message_stop"}


def _responses(body: Json, answer: str | tuple[str, Json]) -> Iterator[Json]:
    details = {
        "input_tokens_details": {"cached_tokens": 200},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    usage = {"input_tokens": 1000, "output_tokens": 50, "total_tokens": 1050, **details}
    if isinstance(answer, str):
        part = {"type": "output_text", "text": answer, "annotations": []}
        item: Json = {
            "type": "message",
            "id": "m1",
            "role": "assistant",
            "status": "completed",
            "content": [part],
        }
    else:
        item = {
            "type": "function_call",
            "id": "f1",
            "call_id": f"call_{uuid4().hex}",
            "name": answer[0],
            "status": "completed",
        }
        item["arguments"] = json.dumps(answer[1])
    response = {"id": "resp_1", "object": "response", "model": body.get("model"), "status": "completed"}
    yield {"type": "response.created", "response": {**response, "status": "in_progress", "output": []}}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.completed", "response": {**response, "output": [item], "usage": usage}}


def _chat(body: Json, answer: str | tuple[str, Json]) -> Iterator[Json]:
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": body.get("model")}
    message: Json = {"role": "assistant", "content": answer if isinstance(answer, str) else None}
    if not isinstance(answer, str):
        called = {"name": answer[0], "arguments": json.dumps(answer[1])}
        message["tool_calls"] = [
            {"index": 0, "id": f"call_{uuid4().hex}", "type": "function", "function": called}
        ]
    stop = "stop" if isinstance(answer, str) else "tool_calls"
    usage = {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050}
    yield {**head, "choices": [{"index": 0, "delta": message, "finish_reason": None}]}
    yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": stop}], "usage": usage}


APIS = {"messages": _anthropic, "responses": _responses, "completions": _chat}


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        parts = self.path.partition("?")[0].strip("/").split("/")
        api = APIS.get(parts[-1])
        if parts[0].isdecimal() or api is None:
            error = {"type": "error", "error": {"type": "error", "code": "error", "message": "refused"}}
            self._send(int(parts[0]) if parts[0].isdecimal() else 404, "application/json", json.dumps(error))
            return
        events = list(api(body, _answer(parts[0], body)))
        lines = [
            f"event: {one.get('type')}\n" * ("type" in one) + f"data: {json.dumps(one)}\n\n" for one in events
        ]
        end = "data: [DONE]\n\n" if api is _chat else ""
        self._send(200, "text/event-stream", "".join(lines) + end)

    def _send(self, status: int, kind: str, text: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())
