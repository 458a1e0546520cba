"""What to ship is said in words, with everything measured that speaks against it."""

from __future__ import annotations

from string import Formatter
from typing import Any

import pytest

from llmbert.workbench.advice import compare_advice
from llmbert.workbench.advice.wording import WORDS

SAFE = {"shared_tokens": 0.0}


def row(name: str, bits: float | None, likelihood: str = "exact", **more: Any) -> dict[str, Any]:
    return {
        **{"name": name, "family": name, "likelihood": likelihood, "bits_per_byte": bits, "train_seconds": 60.0},
        **{"bytes_on_disk": 2_000_000, "collapsed": False, **more},
    }


def measured(name: str, metric: str, value: float, real: float | None = None) -> dict[str, Any]:
    baseline = None if real is None else {"name": "held-out", "value": real}
    return {"name": name, "metric": metric, "value": value, "baseline": baseline}


def curve(name: str, *values: float) -> dict[str, Any]:
    return {"name": name, "valid": list(enumerate(values))}


def advice(table: list[dict[str, Any]], **more: Any) -> str:
    known: dict[str, Any] = {"baselines": [], "evidence": [], "curves": [], "lead": None, "overlap": SAFE}
    return "\n".join(compare_advice(table, **(known | more), language="en"))


TABLE = [row("ngram", 1.7, train_seconds=0.5), row("gpt", 2.0), row("lstm", 2.1)]


def test_an_ngram_that_wins_is_called_one() -> None:
    said = advice(TABLE, curves=[curve("gpt", 5.0, 4.0, 3.5, 3.2, 3.0)])
    assert said.startswith("Ship ngram: at 1.700 bits/byte") and "0.50 s to train and takes 2.0 MB on disk." in said
    assert "Counting beats learning here" in said and "gpt, the best that was trained step by step, is 0.300" in said
    assert "still falling" in said
    flat = advice(TABLE, curves=[curve("gpt", 5.0, 3.0, 3.0, 3.0, 3.0)])
    assert "flattened" in flat and "still falling" not in flat


@pytest.mark.parametrize(("course", "word"), [([], ""), ([5, 3, 3], ""), ([5, 3, 3.2, 3.4, 3.6], "earlier in its")])
def test_a_course_that_is_short_or_rises_has_not_flattened(course: list[float], word: str) -> None:
    said = advice(TABLE, curves=[curve("gpt", *course)] if course else [])
    assert "Counting beats learning here" in said and word in said
    assert "flattened" not in said and "still falling" not in said
    assert ("earlier in its" in said) == bool(word)


def test_an_ngram_that_is_nearly_as_good_is_named() -> None:
    table = [row("gpt", 1.7), row("ngram", 1.75, train_seconds=0.5)]
    assert "ngram, which was counted in 0.50 s, is only 0.050 bits/byte behind gpt" in advice(table)
    assert "counted" not in advice([row("gpt", 1.0), row("ngram", 1.75)])
    mixed = [row("mixture", 1.6), *table]
    assert "counted" not in advice(mixed), "near gpt, but not near what is recommended"
    assert "is only 0.050 bits/byte behind mixture" in advice([row("mixture", 1.7), row("gpt", 1.72), *table[1:]])
    assert "counted" not in advice(table, baselines=[{"name": "xz", "bits_per_byte": 1.72}]), "xz would do better"


def test_the_course_of_the_best_says_what_more_time_would_do() -> None:
    table = [row("gpt", 1.0), row("lstm", 2.0)]
    assert "a longer --budget" in advice(table, curves=[curve("gpt", 5, 4, 3, 2.5, 2)])
    rising = advice(table, curves=[curve("gpt", 5, 2, 2.1, 2.3, 2.5)])
    assert "earlier in its training" in rising and "a shorter --budget" in rising, "which a comparison has"


def test_what_restores_gaps_ranks_with_nothing() -> None:
    said = advice([*TABLE, row("t5", None, "conditional", nats_per_token=2.5)])
    assert "t5 was asked for what had been taken out of held-out text, given the rest: 2.500 nats/token." in said


def test_what_may_be_chance_goes_to_the_cheaper() -> None:
    evidence = [measured("ngram", "milliseconds", 900), measured("gpt", "milliseconds", 90)]
    said = advice(TABLE, lead={"better": None}, evidence=evidence)
    assert "does not tell gpt from ngram, so gpt is the cheaper choice" in said and "0.090 s" in said
    assert "does not tell ngram from gpt: more of it" in advice(TABLE, lead={"better": None})
    assert "does not tell" not in advice(TABLE, lead={"better": "a"}, evidence=evidence)


def test_who_loses_to_what_needs_no_training_is_named() -> None:
    baselines = [{"name": "uniform", "bits_per_byte": 8.0}, {"name": "xz", "bits_per_byte": 1.9}]
    assert "No better than xz (1.900), which needs no training: gpt, lstm." in advice(TABLE, baselines=baselines)


def test_a_bound_below_the_best_is_enough_to_be_better_and_one_above_proves_nothing() -> None:
    assert "predicts held-out text better" in advice([*TABLE, row("vae", 1.5, "bound")])
    said = advice([*TABLE, row("vae", 1.9, "bound", collapsed=True)])
    assert "at most 1.900 bits/byte. Nothing here shows that it is better than ngram" in said
    assert "The latent variable of vae has collapsed" in said


@pytest.mark.parametrize(("own", "more"), [(6.4, "less"), (4.0, "more")])
def test_what_has_no_likelihood_is_judged_by_its_texts(own: float, more: str) -> None:
    evidence = [measured("gan", "reverse", own, 4.7), measured("ngram", "reverse", 4.9, 4.7)]
    said = advice([*TABLE, row("gan", None, "none"), row("bert", None, "pseudo")], evidence=evidence)
    assert (
        f"gan gives no text a probability, so only what it writes can be judged: its reverse score is {own:.2f}" in said
    )
    assert f"that of ngram 4.90 beside 4.70, so it covers {more} of the language." in said
    assert "bert gives a pseudo-likelihood only" in said


def test_what_covers_about_as_much_is_not_said_to_cover_less() -> None:
    evidence = [measured("gan", "reverse", 4.97, 4.7), measured("ngram", "reverse", 4.9, 4.7)]
    said = advice([*TABLE, row("gan", None, "none")], evidence=evidence)
    assert "the two cover about as much of the language" in said and "covers" not in said


@pytest.mark.parametrize(("interval", "words"), [([4.8, 6.4], "may be chance"), ([5.1, 6.1], "covers less")])
def test_intervals_over_seeds_decide_who_covers_less(interval: list[float], words: str) -> None:
    evidence = [measured("gan", "reverse", 5.6, 4.7), measured("ngram", "reverse", 4.9, 4.7)]
    evidence[0]["interval"], evidence[1]["interval"] = interval, [4.85, 4.95]
    said = advice([*TABLE, row("gan", None, "none")], evidence=evidence)
    assert words in said and ("covers less" in said) == (words == "covers less")


def test_speed_size_copies_overlap_and_seeds_may_change_it() -> None:
    evidence = [measured("ngram", "milliseconds", 900), measured("gpt", "milliseconds", 90)]
    evidence += [measured("ngram", "bytes_on_disk", 4.0), measured("gpt", "bytes_on_disk", 0.5)]
    evidence += [measured("ngram", "verbatim", 30.0, 2.0)]
    said = advice(TABLE, evidence=evidence, overlap={"shared_tokens": 0.25})
    for part in (
        "gpt: it writes 100 tokens in 0.090 s",
        "gpt: it takes 500 kB",
        "30.0 % stands",
        "25% of",
        "--seeds 3",
    ):
        assert part in said


def test_what_loses_to_what_needs_no_training_is_no_faster_or_smaller_choice() -> None:
    evidence = [
        measured(name, metric, value)
        for metric in ("milliseconds", "bytes_on_disk")
        for name, value in (("ngram", 900.0), ("gpt", 90.0), ("lstm", 9.0))
    ]
    said = advice(TABLE, evidence=evidence, baselines=[{"name": "xz", "bits_per_byte": 2.05}])
    assert "If speed decides, take gpt: it writes 100 tokens in 0.090 s, ngram in 0.90 s; it needs 0.300 bits" in said
    assert "If size decides, take gpt" in said and "take lstm" not in said
    assert "take lstm" in advice(TABLE, evidence=evidence)


def test_what_restores_gaps_is_no_smaller_choice() -> None:
    evidence = [measured(name, "bytes_on_disk", size) for name, size in (("ngram", 4.0), ("gpt", 2.0), ("t5", 0.5))]
    said = advice([*TABLE, row("t5", None, "conditional", nats_per_token=2.5)], evidence=evidence)
    assert "If size decides, take gpt" in said


def test_several_seeds_say_whether_the_order_is_luck() -> None:
    table = [row("gpt", 1.05), row("lstm", 1.1)]
    trials = [[row("gpt-0", 1.0, family="gpt"), row("gpt-1", 1.1, family="gpt")]]
    same = [row("lstm-0", 1.05, family="lstm"), row("lstm-1", 1.15, family="lstm")]
    said = advice(table, trials=[*trials, same])
    assert "gpt is ahead of lstm in 3 of 4 pairs of their seeds: the order may be the luck" in said
    assert "--seeds" not in said and advice(table, trials=[*trials, same[::-1]]) == said, "seeds are no pairs"
    apart = [row("lstm-0", 1.2, family="lstm"), row("lstm-1", 1.3, family="lstm")]
    assert "With its worst of 2 seeds gpt is still ahead of the best of lstm." in advice(table, trials=[*trials, apart])


def test_without_an_exact_figure_nothing_is_ranked() -> None:
    said = advice([row("gan", None, "none")])
    assert said.startswith("No model here gives an exact likelihood") and "Ship" not in said


def test_chinese_says_the_same_things_with_chinese_marks() -> None:
    table = [*TABLE, row("vae", 1.9, "bound", collapsed=True), row("gan", None, "none")]
    said = compare_advice(table, [{"name": "xz", "bits_per_byte": 1.9}], [], [], {"better": None}, SAFE, "zh")
    english = compare_advice(table, [{"name": "xz", "bits_per_byte": 1.9}], [], [], {"better": None}, SAFE, "en")
    assert len(said) == len(english) and all(sentence.endswith("。") for sentence in said)
    assert not any(mark in sentence for sentence in said for mark in (", ", "; ", ": "))


@pytest.mark.parametrize("key", WORDS)
def test_both_languages_fill_in_the_same_values(key: str) -> None:
    english, chinese = ({field for _, field, _, _ in Formatter().parse(text) if field} for text in WORDS[key])
    assert english == chinese
