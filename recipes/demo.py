"""The first five minutes: two language generators grown from scratch on text that every Python carries.

    python recipes/demo.py --out demo

Writes the text, trains a 5-gram and a GPT on it, compares them, and leaves a page to look at.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from pathlib import Path

import llmbert
from llmbert.cli.display import Display
from llmbert.cli.making import print_comparison

BUDGET = "150s"  # of the GPT; the 5-gram takes a second
SETTINGS = {"ngram": {"order": 5}}


HELD_OUT = 8  # every so manieth topic, by name


def write_topics(train: Path, valid: Path) -> None:
    """Python's own help texts, half a megabyte of English, one record a topic, every eighth topic held out.

    Many topics repeat sections of others; each paragraph is kept once, in the longest topic it is in, so that what is
    held out is not also learned.
    """
    from pydoc_data.topics import topics

    seen: set[str] = set()
    kept = {}
    for name in sorted(topics, key=lambda name: (-len(topics[name]), name)):
        paragraphs = [part for part in re.split(r"\n{2,}", topics[name].strip()) if part.strip()]
        new = [part for part in paragraphs if " ".join(part.split()) not in seen]
        seen.update(" ".join(part.split()) for part in paragraphs)
        if new:
            kept[name] = "\n\n".join(new) + "\n"
    for path, wanted in ((train, False), (valid, True)):
        records = [name for i, name in enumerate(sorted(kept)) if (i % HELD_OUT == 0) is wanted]
        lines = [json.dumps({"topic": name, "text": kept[name]}, ensure_ascii=False) + "\n" for name in records]
        path.write_text("".join(lines), encoding="utf-8")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    options.add_argument("--out", type=Path, default=Path("demo"))
    options.add_argument("--budget", default=BUDGET)
    chosen = options.parse_args()
    shutil.rmtree(chosen.out, ignore_errors=True)
    chosen.out.mkdir(parents=True)
    try:
        text, held_out = chosen.out / "topics.jsonl", chosen.out / "held_out.jsonl"
        write_topics(text, held_out)
        with Display() as display:
            content = llmbert.compare(
                text,
                chosen.out / "comparison",
                valid=held_out,
                families=["ngram", "gpt"],
                tokenizer="bpe",
                vocabulary_size=1024,
                budget=chosen.budget,
                settings=SETTINGS,
                progress=display,
                announce=display.say,
            )
        print_comparison(content, chosen.out / "comparison")
    except llmbert.LLMBertError as error:
        sys.exit(f"demo: {error}")


if __name__ == "__main__":
    main()
