"""What all tests share: where the data sets are, and small corpora that are made on the spot."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# A machine that has other work is slow, which says nothing about what is tested.
hypothesis.settings.register_profile("steady", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("steady")

# The models of the tests are so small that a second thread only waits; tests of determinism ask for two themselves.
os.environ.setdefault("OMP_NUM_THREADS", "1")
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

ENGLISH = (
    "The river rises in the hills and runs to the sea. Where it bends, people built a mill; where it is wide, a town. "
    "In spring the water is high and brown, in autumn it is low and clear. Every year the children learn to swim in it."
)
CHINESE = "春江潮水连海平,海上明月共潮生。滟滟随波千万里,何处春江无月明。江流宛转绕芳甸,月照花林皆似霰。"


def shared(name: str) -> Path:
    """A file of the shared data sets; the test is skipped where they are missing."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"the data set {name} is not beside this checkout")
    return path


@pytest.fixture(scope="session")
def prose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a few thousand words: sentences in an order that repeats with small changes."""
    words = ENGLISH.split()
    lines = [" ".join(words[i % 17 :] + words[: i % 17] + [f"year {i}."]) for i in range(120)]
    path = tmp_path_factory.mktemp("prose") / "prose.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
