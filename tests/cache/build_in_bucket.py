"""Builds the cache of `three_drives` in a bucket with pauses: build_in_bucket.py URL LOCAL FRAME_S PUT_S.

FRAME_S is what encoding a frame takes, PUT_S what each object takes, so that a test can kill it where it likes.
"""

import sys
import time
from pathlib import Path

from flowlab.cache.build import build_cache
from flowlab.core.object_store import ObjectStore
from tests.cache.number_encoder import NumberEncoder
from tests.cache.three_drives import SPLIT, VARIANTS, WINDOWS, three_drives


class Slow(ObjectStore):
    def put_new(self, key: str, content: bytes) -> bool:
        time.sleep(PUT_S)
        return super().put_new(key, content)

    def __truediv__(self, name: str) -> "Slow":
        return Slow(f"{self.url}/{name}")


if __name__ == "__main__":
    URL, LOCAL, FRAME_S, PUT_S = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
    encoder = NumberEncoder(frame_s=FRAME_S)
    build_cache(three_drives(), SPLIT, WINDOWS, encoder, VARIANTS, Slow(URL), local=LOCAL)
