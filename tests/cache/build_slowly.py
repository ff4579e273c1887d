"""Builds the cache of `three_drives` with pauses, so that a test can kill it in the middle: build_slowly.py FOLDER."""

import sys
from pathlib import Path

from flowlab.cache.build import build_cache
from tests.cache.number_encoder import NumberEncoder
from tests.cache.three_drives import SPLIT, VARIANTS, WINDOWS, three_drives

if __name__ == "__main__":
    build_cache(three_drives(), SPLIT, WINDOWS, NumberEncoder(frame_s=0.002), VARIANTS, Path(sys.argv[1]))
