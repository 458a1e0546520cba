"""ROUGE is rouge-score's in English, and does not give 0 in Chinese."""

import gzip
import json
from pathlib import Path

import pytest
from rouge_score import rouge_scorer

from llmbert.metrics import score_texts
from llmbert.metrics.generation.words import any_words, unspaced_words
from llmbert.protocols import LLMBertError
from llmbert.text.segment import segment_words

KINDS = ("rouge1", "rouge2", "rougeL", "rougeLsum")
HYPOTHESES = [
    "Amanda baked cookies.\nShe'll bring Jerry some tomorrow!",
    "The dogs are running in 2 parks",
    "",
    "Nobody knows.",
]
REFERENCES = [
    "Amanda baked cookies and will bring Jerry some tomorrow.",
    "A dog runs in two parks.\nIt runs.",
    "Something",
    "...",
]


@pytest.mark.parametrize("stem", [True, False])
def test_english_is_rouge_scores_own_figure(stem):
    scorer = rouge_scorer.RougeScorer(list(KINDS), use_stemmer=stem)
    theirs = [scorer.score(reference, text) for reference, text in zip(REFERENCES, HYPOTHESES, strict=True)]
    ours = score_texts(HYPOTHESES, REFERENCES, KINDS, stem=stem)
    for kind in KINDS:
        for part, of in (("score", "fmeasure"), ("precision", "precision"), ("recall", "recall")):
            assert ours[kind][part] == pytest.approx(100 * sum(getattr(each[kind], of) for each in theirs) / 4), kind
        assert f"|stem:{'porter' if stem else 'no'}|" in ours[kind]["signature"]


def test_each_kind_takes_the_reference_with_its_best_f1():
    group = ["cold is the weather today", "the weather is"]
    text = "the weather is cold today"
    alone = [score_texts([text], [reference], KINDS[:3]) for reference in group]
    both = score_texts([text], [group], KINDS[:3])
    for kind in KINDS[:3]:
        assert both[kind]["score"] == pytest.approx(max(each[kind]["score"] for each in alone))
    assert alone[0]["rouge1"]["score"] > alone[1]["rouge1"]["score"]
    assert alone[0]["rouge2"]["score"] < alone[1]["rouge2"]["score"]


class TestOtherLanguages:
    def test_chinese_by_hand(self):
        """我去学校 against 我去了学校: 4 of 4 and of 5 characters; bigrams 我去, 学校 of 3 and of 4."""
        scores = score_texts(["我去学校。"], ["我去了学校！"], KINDS[:3], language="zh")
        assert scores["rouge1"]["precision"] == 100 and scores["rouge1"]["recall"] == pytest.approx(80)
        assert scores["rouge2"]["score"] == pytest.approx(100 * 2 * 2 / (3 + 4))
        assert scores["rougeL"]["score"] == pytest.approx(100 * 8 / 9)
        assert "|tok:words+characters|" in scores["rouge1"]["signature"]

    def test_chinese_by_word_where_a_segmenter_is_given(self):
        pair = ["我喜欢机器学习"], ["我喜欢学习机器"]
        scores = score_texts(*pair, ("rouge1", "rouge2"), language="zh", segment=segment_words)
        assert scores["rouge2"]["score"] < scores["rouge1"]["score"] == 100
        signature = scores["rouge1"]["signature"]
        assert "|tok:words|" in signature and "|segment:segment_words|" in signature

    def test_words_of_other_scripts(self):
        assert unspaced_words("GPT-4模型，かな") == ["GPT", "4", "模", "型", "か", "な"]
        assert unspaced_words("Ein schöner Tag, größer!") == ["Ein", "schöner", "Tag", "größer"]
        assert unspaced_words("हिन्दी भाषा") == ["हिन्दी", "भाषा"]
        assert unspaced_words("𠮷野家") == ["𠮷", "野", "家"]
        assert any_words("机器 学习，GPT") == ["机器", "学习", "GPT"]

    def test_german_keeps_its_umlauts_and_has_a_stemmer(self):
        text, reference = "Die größeren Häuser", "Das größere Haus"
        german = score_texts([text], [reference], ("rouge1",), language="de")["rouge1"]
        assert german["score"] == pytest.approx(100 * 2 / 3) and "|stem:snowball-german|" in german["signature"]
        assert score_texts([text], [reference], ("rouge1",), language="de", stem=False)["rouge1"]["score"] == 0

    def test_chinese_called_english_is_refused_and_not_scored_0(self):
        with pytest.raises(LLMBertError, match=r"2 of 2 references hold no letter.*language"):
            score_texts(["我去学校", "好"], ["我去学校", "好"], ("rouge1",))

    def test_a_reference_without_any_word_is_no_foreign_one(self):
        assert score_texts([":)", "ok"], [":)", "ok"], ("rouge1",))["rouge1"]["score"] == 50


@pytest.fixture
def pairs(request):
    """Dialogues and summaries of a file of the shared data sets."""
    # not imported: "conftest" names whichever folder's conftest was read last
    conftest = request.config.pluginmanager.get_plugin(str(Path(__file__).parents[1] / "conftest.py"))

    def read(name):
        with gzip.open(conftest.shared(name), "rt", encoding="utf-8") as file:
            records = [json.loads(line) for line in file]
        return [record["dialogue"] for record in records], [record["summary"] for record in records]

    return read


def test_lead_2_on_dialogsum(pairs):
    """The first two turns, speakers' names kept, against the summary: 28.2 / 7.5 / 21.9 on dev."""
    dialogues, summaries = pairs("dialogsum/dev.jsonl.gz")
    scores = score_texts(["\n".join(text.split("\n")[:2]) for text in dialogues], summaries, KINDS[:3])
    figures = [scores[kind]["score"] for kind in KINDS[:3]]
    assert figures == [pytest.approx(28.15, abs=0.01), pytest.approx(7.52, abs=0.01), pytest.approx(21.88, abs=0.01)]


def test_longest_3_on_samsum(pairs):
    """The three longest utterances, names kept, longest first: 33.0 / 11.0 on the validation split."""
    dialogues, summaries = pairs("samsum/val.jsonl.gz")
    texts = ["\n".join(sorted(filter(str.strip, text.splitlines()), key=len, reverse=True)[:3]) for text in dialogues]
    scores = score_texts(texts, summaries, ("rouge1", "rouge2"))
    assert scores["rouge1"]["score"] == pytest.approx(33.01, abs=0.01)
    assert scores["rouge2"]["score"] == pytest.approx(11.02, abs=0.01)
