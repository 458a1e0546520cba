"""The entry: texts and references in, a score with interval and signature for every metric asked for out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from llmbert.metrics.generation.answers import exact_match, token_f1
from llmbert.metrics.generation.diversity import distinct, self_bleu
from llmbert.metrics.generation.meteor import meteor
from llmbert.metrics.generation.rouge import rouge
from llmbert.metrics.generation.translation import bleu, chrf, nist, ter
from llmbert.metrics.generation.words import Convention, Synonyms, Texts, read_synonyms
from llmbert.metrics.segments import SegmentStatistics, compare_statistics, describe_score
from llmbert.protocols import LLMBertError, UsageError


class Metric(NamedTuple):
    """measure: from texts to statistics of segments; references: whether it needs any; scale: of its score."""

    measure: Callable[[Texts], SegmentStatistics]
    references: bool = True
    scale: str = "0-100"


METRICS: dict[str, Metric] = {
    "bleu": Metric(bleu),
    "chrf": Metric(chrf),
    "chrf++": Metric(partial(chrf, word_order=2)),
    "ter": Metric(ter, scale="edits per 100 words, lower is better"),
    "nist": Metric(nist, scale="0-15 or so"),
    "meteor": Metric(meteor),
    "rouge1": Metric(partial(rouge, kind="rouge1")),
    "rouge2": Metric(partial(rouge, kind="rouge2")),
    "rougeL": Metric(partial(rouge, kind="rougeL")),
    "rougeLsum": Metric(partial(rouge, kind="rougeLsum")),
    "exact-match": Metric(exact_match),
    "token-f1": Metric(token_f1),
    "distinct1": Metric(partial(distinct, order=1), references=False, scale="0-1"),
    "distinct2": Metric(partial(distinct, order=2), references=False, scale="0-1"),
    "distinct3": Metric(partial(distinct, order=3), references=False, scale="0-1"),
    "self-bleu2": Metric(partial(self_bleu, order=2), references=False, scale="0-1, lower is more diverse"),
    "self-bleu3": Metric(partial(self_bleu, order=3), references=False, scale="0-1, lower is more diverse"),
    "self-bleu4": Metric(partial(self_bleu, order=4), references=False, scale="0-1, lower is more diverse"),
    "self-bleu5": Metric(partial(self_bleu, order=5), references=False, scale="0-1, lower is more diverse"),
}

References = Sequence[str | Sequence[str]]


def score_texts(
    hypotheses: Sequence[str],
    references: References | None,
    metrics: Sequence[str] = ("bleu", "chrf", "rouge1", "rouge2", "rougeL"),
    *,
    language: str = "en",
    lowercase: bool = False,
    tokenise: str | None = None,
    stem: bool = True,
    synonyms: Synonyms | str | Path | None = None,
    segment: Callable[[str], str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    verbatim: bool = False,
) -> dict[str, dict[str, Any]]:
    """Scores of generated texts by the names of METRICS, each as `describe_score` gives it, for JSON to hold.

    references: for each text one string or a list of them, as many as there are (None where no metric needs any);
    language, lowercase, tokenise, stem, segment, verbatim: see `Convention`; synonyms: a mapping of words to words of
    like meaning, or a file for `read_synonyms`. An empty text is scored as what it is and counted under "empty".

    Raises UsageError for an unknown metric or setting, LLMBertError where texts and references do not fit together.
    """
    table = read_synonyms(synonyms) if isinstance(synonyms, str | Path) else _lower_keys(synonyms)
    convention = Convention(language, lowercase, tokenise, stem, table, segment, seed, verbatim)
    texts = pair_texts(hypotheses, references, convention, metrics)
    empty = sum(not text.strip() for text in texts.hypotheses)
    return {
        name: describe_score(name, METRICS[name].measure(texts), resamples=resamples, seed=seed, empty=empty)
        for name in metrics
    }


def compare_texts(
    a: Sequence[str],
    b: Sequence[str],
    references: References | None,
    metrics: Sequence[str] = ("bleu", "chrf", "rouge1", "rouge2", "rougeL"),
    *,
    language: str = "en",
    lowercase: bool = False,
    tokenise: str | None = None,
    stem: bool = True,
    synonyms: Synonyms | str | Path | None = None,
    segment: Callable[[str], str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    verbatim: bool = False,
) -> dict[str, dict[str, Any]]:
    """Whether system `a` or system `b` did better on the same references, metric by metric, as JSON can hold it.

    Each as `compare_statistics` gives it; all else as in `score_texts`. Raises LLMBertError, too, where the systems
    have unequal numbers of texts.
    """
    if len(a) != len(b):
        raise LLMBertError(
            f"System a has {len(a)} texts and system b has {len(b)}; compare outputs for the same inputs, in one order."
        )
    table = read_synonyms(synonyms) if isinstance(synonyms, str | Path) else _lower_keys(synonyms)
    convention = Convention(language, lowercase, tokenise, stem, table, segment, seed, verbatim)
    of_a, of_b = (pair_texts(texts, references, convention, metrics) for texts in (a, b))
    return {
        name: compare_statistics(
            name, METRICS[name].measure(of_a), METRICS[name].measure(of_b), resamples=resamples, seed=seed
        )
        for name in metrics
    }


def pair_texts(
    hypotheses: Sequence[str], references: References | None, convention: Convention, metrics: Sequence[str]
) -> Texts:
    """Checked texts, a list of references for each. Raises UsageError or LLMBertError where something is amiss."""
    for name in metrics:
        if name not in METRICS:
            raise UsageError(f'There is no metric "{name}"{nearest_name(name)}; there are {", ".join(METRICS)}.')
        if METRICS[name].references and references is None:
            raise UsageError(f"The metric {name} compares with references; give one or more for each text.")
    if isinstance(hypotheses, str) or isinstance(references, str):
        raise UsageError("A single string was given where a list of texts belongs; put it in a list.")
    if not len(hypotheses):
        raise LLMBertError("There is no text to score; give at least one.")
    for i, text in enumerate(hypotheses):
        if not isinstance(text, str):
            raise UsageError(f'Text {i + 1} is {type(text).__name__}, not a string; give "" where there is no output.')
    if references is None:
        return Texts(list(hypotheses), None, convention)
    if len(references) != len(hypotheses):
        raise LLMBertError(
            f"There are {len(hypotheses)} texts but references for {len(references)}; "
            "give one string, or one list of strings, for each text."
        )
    groups = [[group] if isinstance(group, str) else list(group) for group in references]
    for i, group in enumerate(groups):
        if not group or not all(isinstance(text, str) for text in group):
            raise UsageError(f"The references of text {i + 1} are not one or more strings; give at least one string.")
    return Texts(list(hypotheses), groups, convention)


def nearest_name(name: str) -> str:
    """The hint at the metric most like `name`, or nothing: ROUGE-L, rouge_l and rougel all mean rougeL."""
    plain = {re.sub(r"[^a-z0-9+]", "", known.lower()): known for known in METRICS}
    close = difflib.get_close_matches(re.sub(r"[^a-z0-9+]", "", name.lower()), plain, n=1, cutoff=0.5)
    return f' (did you mean "{plain[close[0]]}"?)' if close else ""


def _lower_keys(synonyms: Mapping[str, Any] | None) -> Synonyms | None:
    """Words of a synonym table in lower case, as METEOR meets them."""
    if synonyms is None:
        return None
    return {word.lower(): {other.lower() for other in others} for word, others in synonyms.items()}
