#!/usr/bin/env bash
# LeRobot 0.4.4 takes the standard deviation of a column as the root of mean(x^2) - mean(x)^2, and squares in the column's
# own type. A float32 latitude that moves by 11 m to and fro comes out with 300 times its std (0.022 for 0.00007), and a
# column of int64 microseconds since 1970, whose squares do not fit into 64 bits, with std 0. No warning.
# Guess before it was run: sums in float64, wrong in the 12th digit at most.
# It matters where a policy's inputs are divided by meta/stats.json's std: GPS positions, encoder counts, clocks, any
# column that is large beside what it moves by. flowlab reads no stats of a data set, and writes its own in float64.
# Seen with lerobot 0.4.4, numpy 2.2.6, Python 3.11 (speed, small beside what it moves by, is right). Fails if any of it changes. Installs torch: some minutes, 6 GB.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check lerobot==0.4.4 numpy==2.2.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
from lerobot.datasets.compute_stats import get_feature_stats

rows = np.arange(300)
columns = {
    "latitude": (52.5 + 1e-4 * np.sin(rows / 20)).astype(np.float32).reshape(-1, 1),  # 11 m to and fro
    "time_us": (1_706_738_751_000_000 + rows * 100_000).reshape(-1, 1),  # 30 s at 10 Hz
    "speed": (10 + np.sin(rows / 20)).astype(np.float32).reshape(-1, 1),
}
for name, column in columns.items():
    stats = get_feature_stats(column, axis=0, keepdims=True)
    found, true = float(np.ravel(stats["std"])[0]), float(column.astype(np.float64).std())
    print(f"{name:8} {column.dtype}: std {found:.6g}, of the same numbers in float64 {true:.6g}")
    assert (abs(found - true) > 0.5 * true) == (name != "speed")
PY
