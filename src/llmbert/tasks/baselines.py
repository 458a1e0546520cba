"""Answers that need no model: what a trained one has to beat."""

from __future__ import annotations

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


def copy_source(text: str) -> str:
    """The source itself: the floor of translation between like languages, and of style transfer."""
    return text.strip()
