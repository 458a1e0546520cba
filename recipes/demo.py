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


def write_topics(path: Path) -> None:
    """Python's own help texts, half a megabyte of English, one record a topic.

    Several topics repeat others' sections; each paragraph is kept where it comes first, so that what is held out is not
    also learned.
    """
    from pydoc_data.topics import topics

    seen: set[str] = set()
    with path.open("w", encoding="utf-8") as file:
        for name in sorted(topics, key=lambda name: (-len(topics[name]), name)):
            paragraphs = [part for part in re.split(r"\n{2,}", topics[name].strip()) if part.strip()]
            new = [part for part in paragraphs if " ".join(part.split()) not in seen]
            seen.update(" ".join(part.split()) for part in paragraphs)
            if new:
                file.write(json.dumps({"topic": name, "text": "\n\n".join(new) + "\n"}) + "\n")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    options.add_argument("--out", type=Path, default=Path("demo"))
    options.add_argument("--budget", default=BUDGET)
    chosen = options.parse_args()
    shutil.rmtree(chosen.out, ignore_errors=True)
    chosen.out.mkdir(parents=True)
    try:
        text = chosen.out / "topics.jsonl"
        write_topics(text)
        with Display() as display:
            content = llmbert.compare(
                text,
                chosen.out / "comparison",
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
