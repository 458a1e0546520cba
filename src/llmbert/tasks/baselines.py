"""Answers that need no model: what a trained one has to beat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from llmbert.protocols import UsageError
from llmbert.text.dialogue import parse_dialogue
from llmbert.text.sentences import split_sentences


def lead_sentences(text: str, count: int, language: str | None = None) -> str:
    """The first `count` sentences: the baseline of news summaries (Nallapati et al. 2016, "lead-3")."""
    return "".join(split_sentences(text, language)[: max(0, count)]).strip()


def longest_utterances(dialogue: str, count: int) -> str:
    """The `count` longest turns of a dialogue of lines "Speaker: text", in the order in which they stand, a line each
    (Gliwa et al. 2019, "longest-3"); of equally long ones the earlier."""
    lines = [line.strip() for line in dialogue.splitlines() if line.strip()]
    chosen = sorted(range(len(lines)), key=lambda at: (-len(lines[at]), at))[: max(0, count)]
    return "\n".join(lines[at] for at in sorted(chosen))


def is_dialogue(text: str) -> bool:
    """Whether most lines of a text, two at least, begin a speaker's turn."""
    try:
        turns = len(parse_dialogue(text)[1])
    except UsageError:
        return False
    return turns >= 2 and 2 * turns > sum(bool(line.strip()) for line in text.splitlines())


def most_frequent(labels: Sequence[str]) -> str:
    """The label that most have, of several the first: what a classifier has to beat."""
    return Counter(labels).most_common(1)[0][0]


def copy_source(text: str) -> str:
    """The source itself: the floor of translation between like languages, and of style transfer."""
    return text.strip()
