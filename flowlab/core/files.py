"""Files that are there whole or not at all."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import flowlab
from flowlab.core.errors import FlowlabError

Stamp = list[int]
"""A file's size, times of modification and of change, and number: cheap to ask for, and another one whenever the file
was written, replaced, or given back an old time of modification."""


def stamp_of(path: Path | str) -> Stamp:
    """The file's stamp; another one for a file that is not there."""
    try:
        stat = os.stat(path)  # noqa: PTH116 -- asked for thousands of images, whose Paths would cost more than it does
    except (OSError, ValueError):
        return []
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def shipped_folder(name: str, marker: str, error: type[FlowlabError]) -> Path:
    """A folder that comes with flowlab, known by a file in it: inside the package, or at the top of the repository.

    Raises the error that is given where it is in neither.
    """
    package = Path(flowlab.__file__).parent
    for folder in (package / name, package.parent / name):
        if (folder / marker).is_file():
            return folder
    raise error(f"flowlab's {name} are neither in {package} nor beside it. Install flowlab again.")


def write_atomic(path: Path, content: bytes | memoryview) -> None:
    """Write `content` to `path` so that a reader, or a machine that loses power, sees the old file or the new one."""
    with whole_file(path) as file:
        file.write(content)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write into; it takes the place of `path` at the end, or is gone after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, partial)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_json_atomic(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, whole or not at all."""
    write_atomic(path, (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())


def sort_metadata(content: bytes) -> bytes:
    """The same safetensors file with its metadata in order: the library shuffles them, and equal weights should be
    equal bytes.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]


LFS_POINTER = b"version https://git-lfs"
"""How the file begins that Git LFS leaves in the place of one that was not fetched."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS)
OF_DISK = (*NO_ROOM, *NO_ACCESS, errno.EIO, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ESTALE)
"""What a file system refuses: nobody's defect, and told without a traceback."""


def trouble(error: OSError, place: Path | None = None) -> str:
    """What the file system refused, of which file (else at `place`), and what to do about it: two sentences."""
    where = error.filename or place
    told = f"{f'{os.fsdecode(where)}: ' if where else ''}{error.strerror or error}."
    if error.errno in NO_ROOM:
        return f"{told} Make room there."
    if error.errno in NO_ACCESS:
        return f"{told} Give this user access to it."
    return told
