"""Texts made to fit: what to keep of one that is longer than a model reads, and a count of what was cut."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from llmbert.protocols import UsageError
from llmbert.text.sentences import is_wide, split_sentences

Length = Callable[[str], int]
"""How long a text is in the unit of the limit, mostly tokens; longer for a text with more in it."""
GAP = " … "


@dataclass(frozen=True)
class Fitted:
    """Texts that fit, and what it took: how many were cut, and how many units went of how many in all."""

    texts: list[str]
    cut: int = 0
    removed: int = 0
    total: int = 0

    def sentence(self, unit: str = "tokens") -> str:
        """What was cut in one sentence; "" for nothing."""
        if not self.cut:
            return ""
        share = self.removed / max(1, self.total)
        return f"{self.cut:,} of {len(self.texts):,} texts were too long and cut: {self.removed:,} {unit} ({share:.0%})"


def fit_texts(texts: Iterable[str], limit: int | None, length: Length, policy: str = "head") -> Fitted:
    """Each text, cut by one of TRUNCATIONS to at most `limit` where it is longer; None: no limit.

    Raises UsageError for another policy or a limit below 1.
    """
    if policy not in TRUNCATIONS:
        raise UsageError(f"there is no way {policy!r} to cut a text; choose one of {', '.join(TRUNCATIONS)}")
    if limit is None:
        return Fitted(list(texts))
    if limit < 1:
        raise UsageError(f"no text fits into {limit}; leave room for at least one token")
    fitted, cut, removed, total = [], 0, 0, 0
    for text in texts:
        before = length(text)
        total += before
        if before > limit:
            text = TRUNCATIONS[policy](text, limit, length)
            cut += 1
            removed += before - length(text)
        fitted.append(text)
    return Fitted(fitted, cut, removed, total)


def keep_head(text: str, limit: int, length: Length) -> str:
    """The longest beginning that fits, cut between words (Chinese: characters)."""
    cuts = _cuts(text)
    return text[: cuts[_most(len(cuts) - 1, lambda n: length(text[: cuts[n]].rstrip()) <= limit)]].rstrip()


def keep_tail(text: str, limit: int, length: Length) -> str:
    """The longest end that fits, cut between words."""
    cuts = _cuts(text)[::-1]
    return text[cuts[_most(len(cuts) - 1, lambda n: length(text[cuts[n] :].lstrip()) <= limit)] :].lstrip()


def keep_head_and_tail(text: str, limit: int, length: Length) -> str:
    """Beginning and end in equal parts, "…" between them; where that alone would not fit, the beginning."""
    room = (limit - length(GAP)) // 2
    while room > 0:
        both = keep_head(text, room, length) + GAP + keep_tail(text, room, length)
        if length(both) <= limit:
            return both
        room -= 1  # tokens at the seam
    return keep_head(text, limit, length)


def keep_lead_sentences(text: str, limit: int, length: Length) -> str:
    """The first sentences that fit whole; where not even one does, its beginning."""
    sentences = split_sentences(text)
    kept = _most(len(sentences), lambda n: length("".join(sentences[:n]).rstrip()) <= limit)
    return "".join(sentences[:kept]).rstrip() or keep_head(text, limit, length)


TRUNCATIONS: dict[str, Callable[[str, int, Length], str]] = {
    "head": keep_head,
    "tail": keep_tail,
    "head+tail": keep_head_and_tail,
    "lead": keep_lead_sentences,
}


def split_to_fit(sentence: str, limit: int, length: Length) -> list[str]:
    """A sentence in pieces that fit, cut at clauses, else between words, else anywhere; "".join of them is it."""
    bare = sentence.strip()
    if length(bare) <= limit or len(bare) < 2:
        return [sentence]
    first = sentence.index(bare[0])
    for cuts in (_clause_cuts(sentence), _cuts(sentence), range(len(sentence))):
        inside = [cut for cut in cuts if first < cut < first + len(bare)]  # neither half is blank
        if inside:
            middle = min(inside, key=lambda cut: abs(2 * cut - len(sentence)))
            halves = sentence[:middle], sentence[middle:]
            return [piece for half in halves for piece in split_to_fit(half, limit, length)]
    return [sentence]


def _clause_cuts(text: str) -> list[int]:
    """Places behind a comma, semicolon or colon, and its space; the two ends too."""
    found = [0]
    for at, character in enumerate(text):
        if character in "，；：、":
            found.append(at + 1)
        elif character in ",;:" and text[at + 1 : at + 2].isspace():
            found.append(at + 2)
    return [*(cut for cut in found if cut < len(text)), len(text)]


def _cuts(text: str) -> list[int]:
    """Places where a word begins or a Chinese character, both ends of the text included."""
    found = [0]
    for at in range(1, len(text)):
        here, before = text[at], text[at - 1]
        if (before.isspace() and not here.isspace()) or is_wide(here) or (is_wide(before) and here.isalnum()):
            found.append(at)
    # A text without any place to cut is cut between characters.
    return [*found, len(text)] if len(found) > 1 or not text else list(range(len(text) + 1))


def _most(most: int, fits: Callable[[int], bool]) -> int:
    """The largest n in 0..most with fits(n), for a `fits` that holds below some n and not above; 0 if for none."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    while low and not fits(low):  # tokens of a longer text may be fewer
        low -= 1
    return low
