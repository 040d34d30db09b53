"""The HTTP server of the metrics: prometheus_client's own keeps a thread for ever for each client that says nothing."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

SCRAPE_S = 10.0
"""For a whole scrape, from the connection to its end."""
SCRAPES = 20
"""At once."""


class _Handler(WSGIRequestHandler):
    def handle(self) -> None:
        too_late = threading.Timer(SCRAPE_S, self._hang_up)
        too_late.daemon = True
        too_late.start()
        try:
            with suppress(OSError):  # it hung up, or we did
                super().handle()
        finally:
            too_late.cancel()

    def _hang_up(self) -> None:
        with suppress(OSError):  # it is over already
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each scrape."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, *given: Any, **named: Any) -> None:
        self._places = threading.BoundedSemaphore(SCRAPES)
        super().__init__(*given, **named)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that hung up."""


def scrape_server(host: str, port: int, registry: CollectorRegistry) -> WSGIServer:
    """Return a server that is bound to that place. Raises OSError."""
    family, *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    own = type("ScrapeServer", (_Server,), {"address_family": family})
    return make_server(host, port, make_wsgi_app(registry), own, handler_class=_Handler)
