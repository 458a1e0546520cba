"""BLEU, chrF and TER are sacreBLEU's to the last digit, also resampled; NIST is mteval's."""

import math
from collections import Counter

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.nist_score import corpus_nist

from llmbert.metrics import score_texts
from llmbert.metrics.bootstrap import resampled_sums
from llmbert.metrics.generation.texts import METRICS
from llmbert.metrics.generation.translation import bleu_of_sums, chrf_of_sums, ter_of_sums
from llmbert.metrics.generation.words import Convention, Texts

HYPOTHESES = [
    "The cat sat on the mat, and looked at the dog.",
    "It is raining cats and dogs today",
    "",
    "He said: the price is 3.50 euros (about 4 dollars)!",
    "a b",
]
REFERENCES = [
    ["The cat was sitting on the mat and watched the dog.", "On the mat sat a cat, looking at the dog."],
    ["Today it is raining cats and dogs."],
    ["Nothing at all."],
    ["He said the price was 3.50 euros, about 4 dollars.", "The price is 3.50 euros, he said.", "He said: 3.50!"],
    ["a b c", ""],
]
STREAMS = [[group[i] if i < len(group) else None for group in REFERENCES] for i in range(3)]
CHINESE = ["我今天去学校。", "他喜欢GPT模型3.5版", "天气很好"]
CHINESE_REFERENCES = ["今天我去了学校。", "他喜欢用GPT模型3.5", "天气真好啊"]


class TestParity:
    @pytest.mark.parametrize("lowercase", [False, True])
    def test_several_references_in_unequal_numbers(self, lowercase):
        scores = score_texts(HYPOTHESES, REFERENCES, ("bleu", "chrf", "chrf++", "ter"), lowercase=lowercase)
        expected = {
            "bleu": sacrebleu.BLEU(lowercase=lowercase),
            "chrf": sacrebleu.CHRF(lowercase=lowercase),
            "chrf++": sacrebleu.CHRF(word_order=2, lowercase=lowercase),
            "ter": sacrebleu.TER(),
        }
        for name, metric in expected.items():
            theirs = metric.corpus_score(HYPOTHESES, STREAMS)
            assert scores[name]["score"] == pytest.approx(theirs.score, rel=1e-12), name
            named = dict(part.split(":", 1) for part in scores[name]["signature"].split("|"))
            wanted = dict(part.split(":", 1) for part in str(metric.get_signature()).split("|"))
            wanted["sacrebleu"] = wanted.pop("version")
            assert wanted.items() <= named.items() and wanted["nrefs"] == "var"

    @pytest.mark.parametrize("tokenise", ["13a", "intl", "none", "char", "zh"])
    def test_tokenisers(self, tokenise):
        ours = score_texts(HYPOTHESES, REFERENCES, ("bleu",), tokenise=tokenise)["bleu"]
        theirs = sacrebleu.BLEU(tokenize=tokenise, force=True).corpus_score(HYPOTHESES, STREAMS)
        assert ours["score"] == pytest.approx(theirs.score, rel=1e-12)
        assert ours["precisions"] == pytest.approx(theirs.precisions)
        assert ours["brevity_penalty"] == pytest.approx(theirs.bp)
        assert (ours["hypothesis_words"], ours["reference_words"]) == (theirs.sys_len, theirs.ref_len)

    def test_chinese_goes_by_character(self):
        scores = score_texts(CHINESE, CHINESE_REFERENCES, ("bleu", "ter", "chrf"), language="zh")
        theirs = sacrebleu.BLEU(tokenize="zh").corpus_score(CHINESE, [CHINESE_REFERENCES])
        assert scores["bleu"]["score"] == pytest.approx(theirs.score) and theirs.score > 30
        edits = sacrebleu.TER(normalized=True, asian_support=True).corpus_score(CHINESE, [CHINESE_REFERENCES])
        assert scores["ter"]["score"] == pytest.approx(edits.score) and edits.score < 60
        assert "|tok:zh|" in scores["bleu"]["signature"] and "|asian:yes|" in scores["ter"]["signature"]

    def test_the_tokenised_protocol_is_multi_bleu(self):
        """Words are what spaces part, case is ignored, nothing is smoothed: 100 BP (p1 p2 p3 p4)^(1/4)."""
        hypotheses = ["The black cat sat down on the mat .", "there is a Big red dog here now ."]
        references = ["the black cat sat on the mat .", "There is a big brown dog here now ."]
        matches, totals, sizes = np.zeros(4), np.zeros(4), np.zeros(2)
        for text, reference in zip(hypotheses, references, strict=True):
            words, wanted = text.lower().split(), reference.lower().split()
            sizes += len(words), len(wanted)
            for n in range(1, 5):
                grams, known = (Counter(zip(*[each[i:] for i in range(n)], strict=False)) for each in (words, wanted))
                matches[n - 1] += sum((grams & known).values())
                totals[n - 1] += sum(grams.values())
        expected = 100 * min(1, math.exp(1 - sizes[1] / sizes[0])) * math.exp(np.log(matches / totals).mean())
        result = score_texts(hypotheses, references, ("bleu",), tokenise="tok")["bleu"]
        assert result["score"] == pytest.approx(expected)
        assert "|case:lc|" in result["signature"] and "|tok:none|smooth:none|" in result["signature"]
        assert score_texts(["a b c d e"], ["a x c d e"], ("bleu",), tokenise="tok")["bleu"]["score"] == 0
        assert score_texts(["a b c d e"], ["a x c d e"], ("bleu",), tokenise="none")["bleu"]["score"] > 0

    @settings(max_examples=200, deadline=None)
    @given(st.integers(0, 60), st.integers(0, 60), st.lists(st.integers(0, 20), min_size=8, max_size=8))
    def test_any_sums_give_sacrebleus_figure(self, size, wanted, counts):
        totals = counts[:4]
        matches = [min(each) for each in zip(counts[4:], totals, strict=True)]
        row = np.array([[size, wanted, *matches, *totals]], dtype=float)
        for smooth in ("exp", "none"):
            theirs = sacrebleu.BLEU.compute_bleu(matches, totals, size, wanted, smooth_method=smooth)
            assert bleu_of_sums(row, smooth)[0] == pytest.approx(theirs.score, rel=1e-9, abs=1e-300)

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=6, max_size=6))
    def test_any_sums_give_sacrebleus_chrf_and_ter(self, triples):
        sums = [number for h, r, m in triples for number in (h, r, min(h, r, m))]
        theirs = sacrebleu.CHRF()._compute_f_score(sums)
        assert chrf_of_sums(np.array([sums], dtype=float))[0] == pytest.approx(theirs)
        edits = sacrebleu.TER()._compute_score_from_stats(sums[:2]).score
        assert ter_of_sums(np.array([sums[:2]], dtype=float))[0] == pytest.approx(edits)

    @pytest.mark.parametrize("name", ["bleu", "chrf", "ter"])
    def test_a_resample_is_the_score_of_the_resampled_corpus(self, name):
        """Summing statistics is the same as drawing sentences and scoring them anew."""
        texts = Texts(HYPOTHESES, REFERENCES, Convention())
        statistics = METRICS[name].measure(texts)
        metric = {"bleu": sacrebleu.BLEU(), "chrf": sacrebleu.CHRF(), "ter": sacrebleu.TER()}[name]
        ours = statistics.score(resampled_sums(statistics.rows, 20, seed=3))
        generator = np.random.default_rng(3)
        for score in ours:
            drawn = generator.integers(0, 5, size=5, dtype=np.int32)
            again = [[stream[i] for i in drawn] for stream in STREAMS]
            assert score == pytest.approx(metric.corpus_score([HYPOTHESES[i] for i in drawn], again).score)


class TestNist:
    def test_nltk_agrees_on_one_reference(self):
        texts = HYPOTHESES[:2] + HYPOTHESES[3:4]
        references = [REFERENCES[0][0], REFERENCES[1][0], REFERENCES[3][0]]
        for hypotheses in (texts, [text[:20] for text in texts], [f"{text} and the dog" for text in texts]):
            ours = score_texts(hypotheses, references, ("nist",), tokenise="none")["nist"]
            theirs = corpus_nist([[text.split()] for text in references], [text.split() for text in hypotheses])
            assert ours["score"] == pytest.approx(theirs)

    def test_by_hand(self):
        """Reference "a b a c": info(a) = log2(4/2) = 1, info(b) = info(c) = 2, info(a b) = log2(2/1) = 1."""
        result = score_texts(["a b"], ["a b a c"], ("nist",), tokenise="none")["nist"]
        assert result["by_order"] == [pytest.approx(1.5), pytest.approx(1.0), 0, 0, 0]
        penalty = math.exp(math.log(0.5) / math.log(1.5) ** 2 * math.log(2 / 4) ** 2)
        assert result["brevity_penalty"] == pytest.approx(penalty)
        assert result["score"] == pytest.approx(2.5 * penalty)

    def test_the_penalty_is_a_half_at_two_thirds_of_the_length(self):
        result = score_texts(["a b"], ["a b c"], ("nist",), tokenise="none")["nist"]
        assert result["brevity_penalty"] == pytest.approx(0.5)

    def test_several_references_clip_by_the_largest_count_and_share_a_mean_length(self):
        result = score_texts(["a a b"], [["a a", "b c d e"]], ("nist",), tokenise="none")["nist"]
        assert result["reference_words"] == 3 and result["brevity_penalty"] == 1
        assert result["by_order"][0] == pytest.approx((2 * math.log2(6 / 2) + math.log2(6 / 1)) / 3)

    def test_case_and_tokenisation_follow_the_convention(self):
        same = score_texts(["The cat."], ["the cat ."], ("nist",), lowercase=True)["nist"]
        assert same["by_order"][0] == pytest.approx(math.log2(3)) and "|case:lc|tok:13a|" in same["signature"]
        chinese = score_texts(["我去学校"], ["我去学校"], ("nist",), language="zh")["nist"]
        assert chinese["hypothesis_words"] == 4
