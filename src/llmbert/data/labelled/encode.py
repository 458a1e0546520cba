"""Labelled examples → rows of token ids, each with its target."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from llmbert.data.labelled.examples import Examples
from llmbert.protocols import LLMBertError
from llmbert.text.tags import find_scheme, mend_tags, space_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llmbert.text.tokenisers import Tokeniser


@dataclass
class LabelledRows:
    """Examples as token ids; row i is element i of each list.

    ids: each from the begin token to the last end token; second: where the second text begins in each, or None;
    others: second texts as rows of their own (embed), or None; words: at which token each word is read (tag), or None;
    targets: a class each, several classes each as 0 and 1, tags by word, or numbers; None where nothing is to be
    learned; origin: which example each row is of, since long sentences of words are cut into several rows;
    truncated: texts whose end is lost; cut: sentences that were cut.
    """

    ids: list[NDArray[np.int32]]
    second: list[int] | None = None
    others: list[NDArray[np.int32]] | None = None
    words: list[NDArray[np.int64]] | None = None
    targets: list[Any] | None = None
    origin: list[int] = field(default_factory=list)
    truncated: int = 0
    cut: int = 0

    def __len__(self) -> int:
        return len(self.ids)


def encode_examples(
    examples: Examples,
    tokeniser: Tokeniser,
    names: Sequence[str],
    max_length: int | None,
    *,
    separators: int = 1,
    characters: bool = False,
    word_at: Literal["first", "last"] = "first",
    shift: float = 0.0,
    scale: float = 1.0,
) -> LabelledRows:
    """Examples as ids of at most `max_length` tokens, with targets: numbers of `names`, or (number - shift) / scale."""
    if examples.task == "tag":
        rows = encode_words(examples.texts, tokeniser, max_length, characters, word_at=word_at)
        number = {name: i for i, name in enumerate(names)}
        rows.targets = [np.array([number[tag] for tag in tags]) for tags in _cut_tags(rows, examples, names)]
        return rows
    if examples.task == "embed":
        rows = encode_texts(examples.texts, None, tokeniser, max_length)
        assert examples.others is not None
        second = encode_texts(examples.others, None, tokeniser, max_length)
        rows.others, rows.truncated = second.ids, rows.truncated + second.truncated
    else:
        rows = encode_texts(examples.texts, examples.others, tokeniser, max_length, separators)
    if examples.labels is None:
        return rows
    if examples.task == "classify":
        rows.targets = [names.index(label) for label in examples.labels]
    elif examples.task == "multilabel":
        rows.targets = [np.isin(names, labels).astype(np.float32) for labels in examples.labels]
    else:
        rows.targets = [(label - shift) / scale for label in examples.labels]
    return rows


def encode_texts(
    texts: Sequence[str],
    others: Sequence[str] | None,
    tokeniser: Tokeniser,
    max_length: int | None,
    separators: int = 1,
) -> LabelledRows:
    """begin text end, or begin text end second end (with `separators` end tokens between the two, two for RoBERTa).

    What does not fit in `max_length` is taken off the end of the longer of the two texts.
    """
    begin, end = (np.array([number]) for number in _ends(tokeniser))
    rows = LabelledRows([], None if others is None else [], origin=list(range(len(texts))))
    first = tokeniser.encode_batch(list(texts))
    second = None if others is None else tokeniser.encode_batch(list(others))
    for i, a in enumerate(first):
        b = None if second is None else second[i]
        room = None if max_length is None else max_length - 2 - (separators if b is not None else 0)
        size_a, size_b = _shares(len(a), 0 if b is None else len(b), room)
        rows.truncated += size_a < len(a) or (b is not None and size_b < len(b))
        if b is None:
            rows.ids.append(np.concatenate((begin, a[:size_a], end), dtype=np.int32))
        else:
            assert rows.second is not None
            whole = (begin, a[:size_a], np.repeat(end, separators), b[:size_b], end)
            rows.ids.append(np.concatenate(whole, dtype=np.int32))
            rows.second.append(1 + size_a + separators)
    return rows


def _ends(tokeniser: Tokeniser) -> tuple[int, int]:
    """What stands before and behind a text: for a tokeniser from elsewhere, what its own rules put there.

    Raises LLMBertError where it has no such tokens.
    """
    before, behind = (tuple(getattr(tokeniser, name, ())) for name in ("prefix_ids", "suffix_ids"))
    begin = before[0] if before else tokeniser.begin_id
    end = behind[-1] if behind else tokeniser.end_id
    if min(begin, end) < 0:
        raise LLMBertError("the tokeniser has no token to begin or end a text with; take a base whose tokeniser has")
    return begin, end


def _shares(a: int, b: int, room: int | None) -> tuple[int, int]:
    """How much of two lengths fits in `room`: the longer is cut first."""
    if room is None or a + b <= room:
        return a, b
    half = room // 2
    if a <= half:
        return a, room - a
    return (room - b, b) if b <= half else (room - half, half)


_SENTENCE_ENDS = frozenset(".!?;。！？；")


def encode_words(
    sentences: Sequence[Sequence[str]],
    tokeniser: Tokeniser,
    max_length: int | None,
    characters: bool = False,
    *,
    word_at: Literal["first", "last"] = "first",
) -> LabelledRows:
    """begin, the tokens of each word, end; a sentence that is too long is cut into rows, behind a full stop if it can.

    A word that has no token (a control character) stands as the unknown token. characters: no spaces between words;
    word_at: which of its tokens a word is read at.
    """
    begin, end = _ends(tokeniser)
    unknown = np.array([tokeniser.unknown_id if tokeniser.unknown_id >= 0 else end], dtype=np.int32)
    rows = LabelledRows([], words=[])
    assert rows.words is not None
    room = None if max_length is None else max_length - 2
    for i, words in enumerate(sentences):
        parts = [part if len(part) else unknown for part in tokeniser.encode_batch(space_words(words, characters))]
        if room is not None:
            rows.truncated += any(len(part) > room for part in parts)
            parts = [part[:room] for part in parts]
        pieces = list(_pieces(words, [len(part) for part in parts], room))
        rows.cut += len(pieces) > 1
        for first, last in pieces:
            sizes = [len(part) for part in parts[first:last]]
            rows.ids.append(np.concatenate(([begin], *parts[first:last], [end])).astype(np.int32))
            ends = np.cumsum(sizes, dtype=np.int64)  # where the last token of each word is, behind the begin token
            rows.words.append(ends if word_at == "last" else ends - np.array(sizes) + 1)
            rows.origin.append(i)
    return rows


def _pieces(words: Sequence[str], sizes: Sequence[int], room: int | None) -> Iterator[tuple[int, int]]:
    """(first, last + 1) words of each piece whose tokens fit in `room`."""
    first = 0
    while room is not None and sum(sizes[first:]) > room:
        last, total = first, 0
        while total + sizes[last] <= room:
            total += sizes[last]
            last += 1
        stops = [j + 1 for j in range(first + (last - first) // 2, last) if words[j] in _SENTENCE_ENDS]
        last = stops[-1] if stops else last
        yield first, last
        first = last
    yield first, len(sizes)


def _cut_tags(rows: LabelledRows, examples: Examples, names: Sequence[str]) -> Iterator[list[str]]:
    """The tags of each row; a span that was cut in two is two spans."""
    assert rows.words is not None and examples.labels is not None
    scheme = find_scheme(names)
    at, before = 0, -1
    for origin, places in zip(rows.origin, rows.words, strict=True):
        at = at if origin == before else 0
        tags = examples.labels[origin][at : at + len(places)]
        at, before = at + len(places), origin
        yield mend_tags(tags, scheme) if scheme else tags
