"""The live page: for this machine alone, read-only, and another one as soon as a run has ended."""

import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from flowlab.core.errors import BusyError
from flowlab.core.progress import SILENT
from flowlab.ledger.ingest import ingest
from flowlab.report.serve import Live, open_server
from flowlab.study.study import Study
from tests.ledger.ledger_files import write_run
from tests.report.studies import write_judged


@contextmanager
def served(study: Study) -> Iterator[int]:
    """The port of a server of the study's page."""
    live = Live(study, lambda: ingest(study.ledger, study.runs), SILENT)
    with open_server(live, 0) as server:
        thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def ask(port: int, path: str, host: str | None = None, method: str = "GET") -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=300)) as connection:
        connection.request(method, path, headers={} if host is None else {"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_a_page_names_its_digest_and_may_ask_for_it(judged: Study) -> None:
    with served(judged) as port:
        _, digest = ask(port, "/digest")
        status, page = ask(port, "/")
        assert status == 200
        assert f'data-digest="{digest}"' in page
        assert "connect-src 'self'" in page


def test_who_comes_by_another_name_is_turned_away(judged: Study) -> None:
    with served(judged) as port:
        assert ask(port, "/", host=f"evil.example:{port}")[0] == 403
        assert ask(port, "/digest", host="127.0.0.1")[0] == 403
        assert ask(port, "/digest", host=f"localhost:{port}")[0] == 200


def test_it_changes_nothing_and_has_nothing_else(judged: Study) -> None:
    with served(judged) as port:
        assert ask(port, "/", method="POST")[0] == 501
        assert ask(port, "/../experiments.toml")[0] == 404
        assert ask(port, "/digest", method="HEAD") == (200, "")


def test_a_run_that_ends_makes_another_page(tmp_path: Path) -> None:
    study = write_judged(tmp_path / "study")
    with served(study) as port:
        before = ask(port, "/digest")[1]
        assert ask(port, "/digest")[1] == before
        write_run(study.runs, "narrow-1001", 0.5, "narrow")
        assert ask(port, "/digest")[1] != before
        assert "narrow-1001" in ask(port, "/")[1]


def test_it_listens_on_this_machine_alone(judged: Study) -> None:
    with open_server(Live(judged, lambda: None, SILENT), 0) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_one_sentence(judged: Study) -> None:
    live = Live(judged, lambda: None, SILENT)
    with open_server(live, 0) as server, pytest.raises(BusyError, match="cannot be had"):
        open_server(live, server.server_port)


def test_a_reader_that_leaves_early_is_no_error(judged: Study, capfd: pytest.CaptureFixture[str]) -> None:
    with served(judged) as port, socket.create_connection(("127.0.0.1", port)) as reader:
        reader.sendall(f"GET /digest HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closes with a reset
    assert "Traceback" not in capfd.readouterr().err
