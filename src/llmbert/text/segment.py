"""Where a text may be cut: into words of Chinese (jieba), and into pieces that tokenise as the whole would."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import lru_cache, partial

from llmbert.protocols import LLMBertError

PIECE_CHARACTERS = 1 << 16
"""Length that a piece is cut to where the text allows it."""
RUN_CHARACTERS = 1 << 20
"""The longest stretch without a safe cut that is kept whole; beyond it the cut falls where it falls."""


@lru_cache(maxsize=1)
def _jieba_cut() -> Callable[[str], list[str]]:
    """jieba's cut with the dictionary of its package; its cache, in a folder anybody may write to, is left alone."""
    try:
        import jieba
    except ImportError as error:
        raise LLMBertError(
            "the jieba tokeniser needs the package jieba, which is not installed; pip install 'llmbert[zh]'"
        ) from error
    tokenizer = jieba.Tokenizer()
    with tokenizer.get_dict_file() as dictionary:
        tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(dictionary)
    tokenizer.initialized = True
    # Words that its hidden Markov model guesses are mostly met once and would leave the vocabulary full of holes.
    return partial(tokenizer.lcut, HMM=False)


def segment_words(text: str) -> str:
    """The text with one space between words (jieba, exact mode, words of its dictionary only), newlines kept.

    Raises LLMBertError where jieba is not installed.
    """
    cut = _jieba_cut()
    return "\n".join(" ".join(word for word in cut(line) if not word.isspace()) for line in text.split("\n"))


def cut_pieces(pieces: Iterable[str], cut: re.Pattern[str] | None) -> Iterator[str]:
    """The same text in pieces of about PIECE_CHARACTERS, each ending where `cut` matches (an empty match).

    `cut` None: any place will do. A stretch of more than RUN_CHARACTERS without a match is cut where it falls.
    Holds at most RUN_CHARACTERS and one incoming piece.
    """
    held: list[str] = []
    length, wanted = 0, PIECE_CHARACTERS
    for piece in pieces:
        held.append(piece)
        length += len(piece)
        if length > wanted:
            rest = yield from _cut_text("".join(held), cut)
            held, length = [rest], len(rest)
            wanted = max(PIECE_CHARACTERS, 2 * length)
    rest = yield from _cut_text("".join(held), cut)
    if rest:
        yield rest


def _cut_text(text: str, cut: re.Pattern[str] | None) -> Generator[str, None, str]:
    """Yields the pieces that are ready and returns the rest."""
    start = 0
    while len(text) - start > PIECE_CHARACTERS:
        end = _safe_end(text, start, cut)
        if not end:
            break
        yield text[start:end]
        start = end
    return text[start:]


def _safe_end(text: str, start: int, cut: re.Pattern[str] | None) -> int:
    """The last safe cut within PIECE_CHARACTERS of `start`, else the first one beyond; 0: more text is needed."""
    near = start + PIECE_CHARACTERS
    if cut is None:
        return near
    window = 1024
    while True:
        low = max(start + 1, near - window)
        ends = [match.start() for match in cut.finditer(text, low, near + 1) if match.start() <= near]
        if ends:
            return ends[-1]
        if low == start + 1:
            break
        window *= 8
    far = start + RUN_CHARACTERS
    match = cut.search(text, near, min(len(text), far))
    if match and match.start() < len(text):
        return match.start()
    return far if len(text) > far else 0
