"""From a text to an n-gram model in a folder that can be asked, in a process that loads no more than that takes.

python benchmarks/ngram_building.py TEXT FOLDER

Torch is loaded where the model is saved, when what counting takes has gone again; `llmbert train` loads it first, and
takes some 200 MB more.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from llmbert.data.corpus import build_corpus
from llmbert.models import find_family

ORDER = 5


def build(text: str, out: str) -> Any:
    """From a text to a folder that can be asked; returns the corpus and the model."""
    Path(out).mkdir(exist_ok=True)
    valid = Path(out) / "valid.txt"  # all of the text is learned from
    valid.write_text("nothing to see here\n", "utf-8")
    corpus = build_corpus([text], Path(out) / "corpora", kind="words", lines=True, valid_paths=[str(valid)])
    family = find_family("ngram")
    settings = family.settings_class()(order=ORDER)
    size = corpus.tokeniser.vocabulary_size
    model = family.model_class().fit(corpus.train.ids, corpus.train.starts, size, settings)
    corpus.tokeniser.save(Path(out))
    from llmbert.runs import save_model

    save_model(Path(out), model)
    model.token_nats(corpus.valid.ids, corpus.valid.starts)  # what it is looked up by is made when it is first asked
    return corpus, model


if __name__ == "__main__":
    build(*sys.argv[1:3])
