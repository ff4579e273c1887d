"""The report on this machine alone, for as long as somebody looks: made anew as runs end, and changed by nobody.

Only GET and HEAD are answered, and only to who asks for this very address by name: a page of another site that has its
name point here is turned away.
"""

import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from flowlab.core.errors import BusyError, FlowlabError
from flowlab.core.progress import SILENT, Progress
from flowlab.ledger.unread import journal_sizes
from flowlab.report.page import campaign_digest, render
from flowlab.report.predicted import Kept
from flowlab.study.study import Study

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
PATIENCE_S = 2.0
"""With who opens a connection and asks nothing: browsers do, and the end would wait for them."""


class Live:
    """The page as the ledger has it now. It is made anew when it is asked for and the campaign has another digest."""

    def __init__(self, study: Study, bring_in: Callable[[], None], progress: Progress) -> None:
        self._study, self._bring_in, self._progress = study, bring_in, progress
        self._lock = threading.Lock()
        self._kept: Kept = {}
        self._sizes: dict[str, int] = {}
        self._page, self._digest = "", ""
        self._seen, self._stamp = "", (0, 0)  # the digest that was found last, and of which ledger file

    def digest(self) -> str:
        """The campaign's digest, once what journals hold by now is in the ledger."""
        with self._lock:
            return self._look()

    def page(self) -> str:
        """The page of the campaign as it is now."""
        with self._lock:
            digest = self._look()
            if digest != self._digest:
                self._page = render(self._study, self._progress, self._kept, digest)
                self._digest, self._progress = digest, SILENT  # who waits for a reload sees the page instead
            return self._page

    def _look(self) -> str:
        sizes = journal_sizes(self._study.runs)
        if sizes != self._sizes:
            self._bring_in()
            self._sizes = sizes
        told = self._study.ledger.stat() if self._study.ledger.exists() else None
        stamp = (told.st_mtime_ns, told.st_size) if told else (0, 0)
        if stamp != self._stamp or not self._seen:
            self._seen, self._stamp = campaign_digest(self._study), stamp
        return self._seen


def serve(study: Study, port: int, progress: Progress, bring_in: Callable[[], None]) -> None:
    """Show the page at `port` (0: any) until Ctrl-C. `bring_in` reads journals into the ledger, as all commands do.

    Raises BusyError for a port that another process has, and as `render` does before anything is shown.
    """
    live = Live(study, bring_in, progress)
    live.page()
    with open_server(live, port) as server:
        progress.say(
            f"http://{HOST}:{server.server_port}/ shows study {study.name} until Ctrl-C, on this machine alone"
        )
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            progress.say("the page is closed")


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # at the end each answer under way is waited for: none is cut off within the ledger

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that left before the answer was whole is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def open_server(live: Live, port: int) -> ThreadingHTTPServer:
    """A server of the page that listens on the loopback address alone. Raises BusyError for a port that is taken."""
    handler = type("Handler", (_Handler,), {"live": live})
    try:
        return _Server((HOST, port), handler)
    except OSError as error:
        raise BusyError(
            f"port {port} of {HOST} cannot be had ({error.strerror or error}). Name another one, or 0 for any: "
            f"flowlab report --serve --port 0"
        ) from None


class _Handler(BaseHTTPRequestHandler):
    live: Live
    server_version, sys_version = "flowlab", ""
    timeout = PATIENCE_S

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        status, kind, text = self._found()
        body = text.encode()
        self.send_response(status)
        headers: dict[str, Any] = {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": len(body),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
        }
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _found(self) -> tuple[HTTPStatus, str, str]:
        port = self.connection.getsockname()[1]
        if self.headers.get("Host", "") not in {f"{name}:{port}" for name in NAMES}:
            return HTTPStatus.FORBIDDEN, "text/plain", f"This page is at http://{HOST}:{port}/ and nowhere else.\n"
        try:
            if self.path == "/":
                return HTTPStatus.OK, "text/html", self.live.page()
            if self.path == "/digest":
                return HTTPStatus.OK, "text/plain", self.live.digest()
        except FlowlabError as error:
            return HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", f"{error}\n"
        return HTTPStatus.NOT_FOUND, "text/plain", "There is / and nothing else.\n"

    def log_message(self, *_: Any) -> None:
        """Who looked when is nobody's news."""
