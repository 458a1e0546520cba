"""The entry to all scores of texts: what it takes, what it gives, what it refuses, and how long it takes."""

import json
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.metrics import METRICS, compare_texts, score_texts
from llmbert.protocols import LLMBertError, UsageError

COMPARING = [name for name, metric in METRICS.items() if metric.references]
SAME = "The quick brown fox jumps over the lazy dog"
LANGUAGES = {"en": SAME, "de": "Größere Füchse springen über träge Hunde", "zh": "春江潮水连海平，海上明月共潮生。"}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", COMPARING)
def test_a_text_equal_to_a_reference_is_perfect(name, language):
    text = LANGUAGES[language]
    result = score_texts([text] * 3, [[text, "x"]] * 3, (name,), language=language)[name]
    if name == "nist":
        worse = score_texts([text[:-9]] * 3, [[text]] * 3, (name,), language=language)[name]
        assert result["brevity_penalty"] == 1 and result["score"] > worse["score"] > 0
    elif name == "meteor":
        assert result["precision"] == result["recall"] == 100 and result["chunks"] == 3
    elif name == "ter":
        assert result["score"] == 0
    else:
        assert result["score"] == pytest.approx(100)


@pytest.mark.parametrize("name", COMPARING)
def test_empty_texts_are_scored_and_counted(name):
    result = score_texts(["", "  ", SAME], [SAME] * 3, (name,))[name]
    full = score_texts([SAME] * 3, [SAME] * 3, (name,))[name]
    assert result["empty"] == 2 and full["empty"] == 0
    assert (result["score"] > full["score"]) if name == "ter" else (result["score"] < full["score"])
    nothing = score_texts(["", ""], [SAME] * 2, (name,))[name]
    assert nothing["score"] == (100 if name == "ter" else 0)


ANY_TEXT = st.text(max_size=20)
ASCII_TEXT = st.text(alphabet="abcAB12 .,'&-\n", max_size=20)
ANY_PAIRS = st.sampled_from([("zh", ANY_TEXT), ("de", ANY_TEXT), ("ja", ANY_TEXT), ("en", ASCII_TEXT)]).flatmap(
    lambda of: st.tuples(
        st.just(of[0]), st.lists(st.tuples(of[1], st.lists(of[1], min_size=1, max_size=3)), min_size=1, max_size=5)
    )
)


@settings(max_examples=80, deadline=None)
@given(ANY_PAIRS, st.sampled_from([None, "13a", "intl", "char", "none", "tok"]))
def test_any_texts_give_json_and_an_interval(drawn, tokenise):
    language, pairs = drawn
    texts, references = zip(*pairs, strict=True)
    scores = score_texts(texts, references, list(METRICS), language=language, tokenise=tokenise, resamples=20)
    assert list(scores) == list(METRICS)
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores
    for name, result in scores.items():
        assert result["score"] >= 0 and result["n"] == len(texts) and result["signature"].startswith(f"metric:{name}|")
        if len(texts) > 1:
            assert result["interval"][0] <= result["interval"][1]
        if METRICS[name].scale == "0-100":
            assert result["score"] <= 100 + 1e-9
        if METRICS[name].scale.startswith("0-1,") or METRICS[name].scale == "0-1":
            assert result["score"] <= 1 + 1e-9


def test_one_string_is_one_reference():
    texts = ["a cat sat here", "no dog at all"]
    assert score_texts(texts, texts[::-1]) == score_texts(texts, [[text] for text in texts[::-1]])


def test_the_seed_fixes_intervals():
    generator = random.Random(0)
    texts, references = ([" ".join(generator.choices("abcdefg", k=9)) for _ in range(30)] for _ in range(2))
    first, again, other = (score_texts(texts, references, ("bleu",), seed=seed)["bleu"] for seed in (0, 0, 1))
    assert first == again and first["interval"] != other["interval"] and first["score"] == other["score"]


def test_the_segmenter_serves_every_metric_by_words():
    def spaced(text):
        return text.replace("机器", " 机器 ").replace("学习", " 学习 ")

    pair = ["机器学习"], ["学习机器"]
    by_character = score_texts(*pair, ("bleu", "ter", "nist", "meteor", "distinct1"), language="zh")
    by_word = score_texts(*pair, ("bleu", "ter", "nist", "meteor", "distinct1"), language="zh", segment=spaced)
    assert by_character["bleu"]["hypothesis_words"] == by_character["nist"]["hypothesis_words"] == 4
    assert (
        by_word["bleu"]["hypothesis_words"] == by_word["nist"]["hypothesis_words"] == by_word["meteor"]["matches"] == 2
    )
    assert by_word["ter"]["reference_words"] == by_word["distinct1"]["total"] == 2
    assert all("|segment:spaced|" in result["signature"] for result in by_word.values())


class TestTwoSystems:
    def test_the_better_one_is_found_by_every_metric(self):
        generator = random.Random(0)
        words = [
            "the",
            "a",
            "cat",
            "dog",
            "house",
            "tree",
            "walks",
            "runs",
            "sleeps",
            "red",
            "green",
            "big",
            "in",
            "on",
        ]
        references = [" ".join(generator.choices(words, k=10)) for _ in range(60)]

        def spoil(rate):
            return [" ".join(w if generator.random() > rate else "wrong" for w in text.split()) for text in references]

        near, far = spoil(0.1), spoil(0.5)
        names = [name for name in COMPARING if name != "exact-match"]
        results = compare_texts(far, near, references, names, resamples=200)
        assert {result["better"] for result in results.values()} == {"b"}
        assert results["ter"]["difference"] > 0 > results["bleu"]["difference"]
        assert all(result["p"] < 0.05 and result["p_randomisation"] < 0.05 for result in results.values())
        alone = score_texts(near, references, names, resamples=2)
        assert all(results[name]["b"] == pytest.approx(alone[name]["score"]) for name in names)

    def test_unequal_numbers_are_refused(self):
        with pytest.raises(LLMBertError, match="a has 1 texts and system b has 2"):
            compare_texts(["a"], ["a", "b"], ["a", "b"])


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "near"),
        [
            ("blue", "bleu"),
            ("ROUGE-L", "rougeL"),
            ("rouge_2", "rouge2"),
            ("chrF++", "chrf++"),
            ("selfbleu4", "self-bleu4"),
        ],
    )
    def test_an_unknown_metric_names_the_nearest(self, name, near):
        with pytest.raises(UsageError) as refusal:
            score_texts(["a"], ["a"], (name,))
        assert f'There is no metric "{name}" (did you mean "{near}"?); there are bleu, chrf' in str(refusal.value)

    @pytest.mark.parametrize(
        ("texts", "references", "given", "message"),
        [
            (["a", "b"], ["a"], {}, "2 texts but references for 1"),
            ([], [], {}, "no text"),
            (["a"], None, {}, "bleu compares with references"),
            (["a"], [[]], {}, "references of text 1"),
            (["a", "b"], ["a", ["b", None]], {}, "references of text 2"),
            (["a", None], ["a", "b"], {}, "Text 2 is NoneType"),
            ("abc", ["a", "b", "c"], {}, "single string"),
            (["a"], "a", {}, "single string"),
            (["a"], ["a"], {"language": "english!"}, "language code"),
            (["a"], ["a"], {"tokenise": "14b"}, 'no tokeniser "14b"'),
        ],
    )
    def test_what_does_not_fit(self, texts, references, given, message):
        with pytest.raises(LLMBertError, match=message):
            score_texts(texts, references, ("bleu",), **given)


def test_a_thousand_texts_take_moments():
    generator = random.Random(0)
    words = [f"{start}{end}" for start in "bcdfghklmnprst" for end in ("ats", "oning", "er", "ills", "ed", "un")]
    texts, references = ([" ".join(generator.choices(words, k=25)) for _ in range(1000)] for _ in range(2))
    begun = time.process_time()
    score_texts(texts, references)
    assert time.process_time() - begun < 10
