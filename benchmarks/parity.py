"""How far logits differ from Hugging Face's Transformers, there and back, on random weights: docs/parity.md.

python benchmarks/parity.py
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INWARD_FIRST = ("gpt", "t5")  # modules that name the way in before the way out
HEAD = """# How far the logits differ

The greatest absolute difference of any logit between a model here and the same weights in Transformers {version},
float32, random weights, texts of unequal length with padding. "Out": written here, opened there with `AutoModelFor…`;
"in": written there, opened here without Transformers. `tests/models/test_huggingface_*.py` hold each to 1e-4;
`python benchmarks/parity.py` writes this page.

| architecture and setting | out | in |
|---|---|---|
"""


def rows_of(name: str) -> list[tuple[str, float, float]]:
    """(setting, out, in) of one test module."""
    module = importlib.import_module(f"tests.models.test_huggingface_{name}")
    if name in INWARD_FIRST:
        return [(setting, out, back) for setting, back, out in module.parity_rows()]
    with tempfile.TemporaryDirectory() as folder:
        return list(module.parity_rows(Path(folder)))


def main() -> None:
    sys.path.insert(0, str(ROOT))
    import transformers

    transformers.utils.logging.set_verbosity_error()
    lines = [
        f"| {setting} | {out:.1e} | {back:.1e} |"
        for name in ("gpt", "bert", "t5", "bart")
        for setting, out, back in rows_of(name)
    ]
    page = HEAD.format(version=transformers.__version__) + "\n".join(lines) + "\n"
    (ROOT / "docs" / "parity.md").write_text(page, "utf-8")
    print(page)


if __name__ == "__main__":
    main()
