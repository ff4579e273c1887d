"""An S3 server of its own process for tests: localbucket, which knows If-None-Match, with credentials checked.

`s3_server.py FOLDER` serves its subfolders as buckets and prints the port. Only the key "friend" may do anything.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from pathlib import Path

from localbucket import S3Error, S3Handler

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "friend",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
    "AWS_DISABLE_BULK_DELETE": "true",  # which localbucket has not
}


class Handler(S3Handler):
    disable_nagle_algorithm = True  # headers and body are two writes, and the second would wait for 40 ms

    def _dispatch(self, action: Callable[[str, str], None]) -> None:
        if "Credential=friend/" not in self.headers.get("Authorization", ""):
            self.close_connection = True
            return self._send_error(S3Error(HTTPStatus.FORBIDDEN, "AccessDenied", "Access Denied"))
        return super()._dispatch(action)


class Server(ThreadingHTTPServer):
    request_queue_size = 128


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """The endpoint of a server for the buckets in a folder."""
    command = [sys.executable, "-m", "tests.core.s3_server", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


if __name__ == "__main__":
    Handler.data_root = Path(sys.argv[1])
    server = Server(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
