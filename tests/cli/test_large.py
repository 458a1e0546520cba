"""One line of tens of megabytes, in memory that the line does not decide."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

MEGABYTES = 20


@pytest.fixture(scope="module")
def long_line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One line without an end: words by Zipf's law, drawn once and then repeated."""
    draw = random.Random(5)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 9))) for _ in range(5000)]
    block = " ".join(draw.choices(words, [1 / rank for rank in range(1, 5001)], k=200_000)) + " "
    path = tmp_path_factory.mktemp("large") / "line.txt"
    with path.open("w") as file:
        for _ in range(-(-MEGABYTES * 1_000_000 // len(block))):
            file.write(block)
    return path


# A process's ru_maxrss begins with that of the one that started it; this does not.
MEASURED = """
import atexit, re, sys
from pathlib import Path
from llmbert.cli import main
status = Path("/proc/self/status")
atexit.register(lambda: Path(sys.argv[-1], "peak").write_text(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]))
main()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_line_of_many_megabytes_in_bounded_memory(long_line: Path, tmp_path: Path) -> None:
    """In Python's strings, ids as Python integers or int64 arrays this line would take gigabytes.

    Measured: 0.24 GB once torch is loaded, 0.53 GB at most for this line, 1.4 GB for one of 100 MB.
    """
    ask = ["train", "--family=ngram", "--set=order=2", "--tokenizer=bytes", "--lines", "--data", str(long_line)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *ask, "--out", str(tmp_path / "run")],
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert facts["data"]["train"]["documents"] == 1
    assert facts["data"]["train"]["bytes"] + facts["data"]["valid"]["bytes"] == long_line.stat().st_size
    assert facts["scores"]["bits_per_byte"] < 4.0
    peak = int((tmp_path / "run" / "peak").read_text()) * 1024
    assert peak < 700e6, f"{peak / 1e6:.0f} MB"
