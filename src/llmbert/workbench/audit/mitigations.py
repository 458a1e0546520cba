"""What can be done before or while a model learns, so that it keeps less: each by its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from llmbert.data.personal.find import find_personal
from llmbert.data.personal.pseudonyms import replacement
from llmbert.data.personal.scrubbing import scrub_text
from llmbert.models import find_family
from llmbert.workbench.audit.planting import read_lines, write_texts

NOISE = 2.0  # of private n-gram counts: small ε, but common phrases stay
GRADIENT_NOISE = 0.8
PRIVATE_RATE = 2e-3


@dataclass(frozen=True)
class Mitigation:
    """clean: texts → fewer or other texts; settings: of a family's training; suits: whether it is of use to one;
    tokenizer: in the place of the one asked for."""

    clean: Callable[[Iterator[str]], Iterator[str]] | None = None
    settings: Callable[[str], dict[str, Any]] = lambda family: {}
    suits: Callable[[str], bool] = lambda family: True
    tokenizer: str | None = None


def without_repeats(texts: Iterator[str]) -> Iterator[str]:
    """Each text once: what is planted often stands there once."""
    seen: set[bytes] = set()
    for text in texts:
        digest = blake2b(" ".join(text.split()).encode(), digest_size=16).digest()
        if digest not in seen:
            seen.add(digest)
            yield text


def scrubbed(texts: Iterator[str]) -> Iterator[str]:
    """Texts whose personal data are masked."""
    replace, counts = replacement("mask"), Counter[str]()
    for text in texts:
        yield scrub_text(text, find_personal(text), replace, counts)


def _stopping(family: str) -> dict[str, Any]:
    return {"patience": 2}


def _private(family: str) -> dict[str, Any]:
    if find_family(family).counts:
        return {"noise": NOISE}
    rates = {"optimiser": "adam", "learning_rate": PRIVATE_RATE}
    return {"noise": GRADIENT_NOISE, "clip_norm": 1.0, "dropout": 0.0, **rates}


def _learns_by_steps(family: str) -> bool:
    return not find_family(family).counts


def _may_be_private(family: str) -> bool:
    known = find_family(family)
    return known.counts or (known.likelihood == "exact" and not known.mixes)


MITIGATIONS: dict[str, Mitigation] = {
    "none": Mitigation(),
    "dedup": Mitigation(without_repeats),
    "scrub": Mitigation(scrubbed),
    "early-stop": Mitigation(settings=_stopping, suits=_learns_by_steps),
    # A tokeniser that is made of the text has words of its own for what stands there often, noise or not.
    "private": Mitigation(settings=_private, suits=_may_be_private, tokenizer="bytes"),
    # Privacy is for one document: what stands in many of them is to be made one first.
    "private-once": Mitigation(without_repeats, _private, _may_be_private, "bytes"),
}


def cleaned(train: Path, name: str) -> Path:
    """The training text after a mitigation, beside the one before it; the same file where it changes no text."""
    clean = MITIGATIONS[name].clean
    if clean is None:
        return train
    path = train.with_name(f"train-{name}.jsonl")
    if not path.exists():
        write_texts(path, clean(read_lines(train)))
    return path
