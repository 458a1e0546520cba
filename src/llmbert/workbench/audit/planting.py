"""Text and canaries → files to train on that hold them, and the texts that are asked about afterwards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmbert.data.corpus import Corpus
from llmbert.data.shards import Shard
from llmbert.protocols import LLMBertError, Progress, silent
from llmbert.text.segment import segment_words
from llmbert.text.vocabulary import LONG_WORD
from llmbert.trust.canaries import FEWEST_WORDS, SPACES, Canaries, Space, draw_canaries

ASKED = 1000  # texts on either side of membership inference, at most
LEAST = 40  # characters of such a text, at least; shorter ones say nothing
MOST = 1000  # characters of it that are asked about
FEW = 50  # documents on either side below which stretches are asked about in their place
STRETCH = 400  # characters of these
POOL = 10  # times as many stretches are drawn from, so that they come from many documents
WORDS = 2000  # of the text, the commonest, that secrets are made of where a tokeniser knows words alone
SEGMENTED = 2_000_000  # characters of the text that are segmented to find them
CONTROLS, CANDIDATES = 400, 8000


@dataclass(frozen=True)
class Planted:
    """Text to train on with canaries in it (`train`, JSONL), held-out text (`valid`), and what is asked about.

    members: texts that were trained on; others: held-out ones; reference: held-out ones that are neither asked about
    nor trained on, for a model to compare with.
    """

    train: Path
    valid: Path
    canaries: Canaries
    members: list[str]
    others: list[str]
    reference: list[str]


def plant(
    corpus: Corpus,
    folder: Path,
    kind: str,
    language: str,
    repeats: tuple[int, ...],
    each: int,
    seed: int,
    progress: Progress = silent,
    tokenizer: str = "",
) -> Planted:
    """Write a corpus out into `folder` with canaries planted at places drawn at random, each as a document of its own.

    tokenizer: the kind that models of it will have, for secrets are made of its words; that of the corpus must be
    lossless. Raises LLMBertError where there is too little text.
    """
    tokeniser = corpus.tokeniser
    space = _space(kind, language, corpus, tokenizer)
    canaries = draw_canaries(space, repeats, each, CONTROLS, CANDIDATES, seed)
    random = np.random.default_rng(seed)
    copies = canaries.copies()
    places: dict[int, list[str]] = {}
    for place, copy in zip(random.integers(corpus.train.documents + 1, size=len(copies)).tolist(), copies, strict=True):
        places.setdefault(place, []).append(copy)

    def training() -> Iterator[str]:
        for number in range(corpus.train.documents + 1):
            yield from places.get(number, ())
            if number < corpus.train.documents:
                yield corpus.train.text_of(number, tokeniser)
            progress("planting", number, corpus.train.documents)

    folder.mkdir(parents=True, exist_ok=True)
    held = (corpus.valid.text_of(number, tokeniser) for number in range(corpus.valid.documents))
    train, valid = folder / "train.jsonl", folder / "valid.jsonl"
    write_texts(train, training())
    write_texts(valid, held)
    whole = asked_whole(corpus.train, corpus.valid)
    asked = texts_to_ask(corpus.valid, tokeniser.decode, 2 * ASKED, random, whole, corpus.train)
    if len(asked) < 20:
        raise LLMBertError(f"only {len(asked)} held-out texts can be asked about, too few; give more held-out text")
    half = len(asked) // 2
    members = texts_to_ask(corpus.train, tokeniser.decode, half, random, whole, known=asked)
    return Planted(train, valid, canaries, members, asked[:half], asked[half:])


def write_texts(path: Path, texts: Iterable[str]) -> int:
    """A JSONL file of texts, in one move; returns how many."""
    passing, count = path.with_name(f".{path.name}.part"), 0
    with passing.open("w", encoding="utf-8") as file:
        for text in texts:
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            count += 1
    passing.replace(path)
    return count


def read_lines(path: Path) -> Iterator[str]:
    """The texts of such a file."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)["text"]


def _space(kind: str, language: str, corpus: Corpus, tokenizer: str) -> Space:
    return SPACES[kind](language, _common_words(corpus, language, tokenizer) if kind == "words" else [])


def _common_words(corpus: Corpus, language: str, tokenizer: str) -> list[str]:
    """The commonest words of the training text, cut as the tokeniser cuts them, of letters alone where these suffice:
    in Chinese without spaces what a tokeniser of words takes for one is a clause with its marks."""
    segmented = tokenizer == "jieba" or (language == "zh" and tokenizer != "words")
    counted: Counter[str] = Counter()
    read = 0
    for number in range(min(corpus.train.documents, 20_000)):
        text = corpus.train.text_of(number, corpus.tokeniser)[:100_000]
        counted.update((segment_words(text) if segmented else text).split())
        read += len(text)
        if segmented and read >= SEGMENTED:
            break
    common = [word for word, _ in counted.most_common() if len(word) <= LONG_WORD]
    plain = [word for word in common if word.isalpha()]
    if len(plain) < FEWEST_WORDS:
        plain = [word for word in common if any(map(str.isalpha, word))]
    return plain[:WORDS]


def asked_whole(train: Shard, held_out: Shard) -> bool:
    """Whether texts to ask about are documents of both shards, or stretches of both where either has few.

    Members and others are cut alike: by their lengths, or by how they begin, they could be told apart without a model.
    """
    return min(train.documents, held_out.documents) >= FEW


def texts_to_ask(
    shard: Shard,
    decode: Callable[..., str],
    most: int,
    random: np.random.Generator,
    whole: bool,
    learned: Shard | None = None,
    known: Iterable[str] = (),
) -> list[str]:
    """Texts of a shard to ask about, all different, in an order drawn at random: its documents, or stretches of them.

    whole: documents, each its beginning of up to MOST characters; otherwise stretches of STRETCH, and documents up to
    as long as they are; learned: a shard whose documents are none of them, for who was trained on a text is no stranger
    to it wherever else it stands; known: texts that are none of them either.
    """
    found: dict[str, None] = {}
    strange = np.ones(shard.documents, bool) if learned is None else ~np.isin(shard.digests, learned.digests)
    passed, enough = set(known), most if whole else POOL * most
    for number in random.permutation(np.flatnonzero(strange)).tolist():
        if len(found) >= enough:
            break
        ids = shard.document(number)
        text = decode(ids[: 4 * MOST])[:MOST] if whole else decode(ids)  # four bytes a character at most
        begins = range(1) if whole else range(0, max(1, len(text) - STRETCH + 1), STRETCH)
        parts = [text[begin : begin + (MOST if whole else STRETCH)].strip() for begin in begins]
        found.update(dict.fromkeys(part for part in parts if len(part) >= LEAST and part not in passed))
    texts = list(found)
    return [texts[i] for i in random.permutation(len(texts))[:most].tolist()]
