"""METEOR: modules one after another, the alignment of fewest chunks, the parameters of 2005."""

import itertools
import random
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.meteor_score import meteor_score

from llmbert.metrics import score_texts
from llmbert.metrics.generation.meteor import Matcher, count_chunks, meteor_of_sums
from llmbert.metrics.generation.words import read_synonyms, stemmer
from llmbert.protocols import LLMBertError


class NoSynonyms:
    """A wordnet that knows nothing: nltk's METEOR without its third module, and without a download."""

    @staticmethod
    def synsets(word):
        return []


def one(hypothesis, references, **given):
    return score_texts([hypothesis], [references], ("meteor",), tokenise="none", **given)["meteor"]


class TestFormula:
    def test_by_hand(self):
        """4 of 5 and of 6 words in 3 chunks: F = 10PR/(R + 9P), penalty = 0.5 (3/4)^3."""
        result = one("the cat sat quite still", "the cat there sat so still", stem=False)
        p, r = 4 / 5, 4 / 6
        assert result["matches"] == 4 and result["chunks"] == 3
        assert result["score"] == pytest.approx(100 * 10 * p * r / (r + 9 * p) * (1 - 0.5 * (3 / 4) ** 3))
        assert result["penalty"] == pytest.approx(0.5 * (3 / 4) ** 3)
        assert result["precision"] == pytest.approx(80) and result["recall"] == pytest.approx(100 * 4 / 6)

    def test_the_corpus_score_is_of_summed_statistics(self):
        texts, references = ["a b c", "x y"], ["a b c", "z w"]
        result = score_texts(texts, references, ("meteor",), tokenise="none", stem=False)["meteor"]
        assert result["score"] == pytest.approx(meteor_of_sums(np.array([[3.0, 1.0, 5.0, 5.0]]))[0])
        assert result["segment_mean"] == pytest.approx(100 * (1 - 0.5 / 27) / 2)

    def test_the_best_reference_counts(self):
        alone = [one("the cat sat", reference)["score"] for reference in ("a dog sat", "the cat slept")]
        assert one("the cat sat", ["a dog sat", "the cat slept"])["score"] == max(alone) > min(alone)

    def test_the_signature_says_which_modules_ran(self):
        assert "|modules:exact+stem|stem:porter|alpha:0.9|beta:3.0|gamma:0.5|" in one("a", "a")["signature"]
        assert "|modules:exact|alpha" in one("a", "a", stem=False)["signature"]
        assert "|modules:exact+stem+synonym|" in one("a", "a", synonyms={"a": {"b"}})["signature"]
        assert "|modules:exact|alpha" in one("我", "我", language="zh")["signature"]


class TestPeer:
    def test_nltk_agrees_where_no_stem_comes_twice_in_a_text(self):
        """Where one does, nltk takes the last place, and we the one that makes the fewest chunks."""
        groups = [["cats", "cat"], ["running", "runs"], ["houses", "house"], ["Mat", "mats"], ["friends", "friend"]]
        groups += [[word] for word in ("the", "on", "big", "sat")]
        generator = random.Random(0)
        compared = 0
        for _ in range(100):
            text, reference = (
                [generator.choice(group) for group in generator.sample(groups, generator.randint(1, 9))]
                for _ in range(2)
            )
            theirs = meteor_score([reference], text, wordnet=NoSynonyms())
            assert one(" ".join(text), " ".join(reference))["score"] == pytest.approx(100 * theirs)
            compared += 0 < theirs < 0.9
        assert compared > 50

    def test_never_more_chunks_than_nltk(self):
        generator = random.Random(1)
        better = 0
        for _ in range(150):
            text, reference = ([generator.choice("abcd") for _ in range(generator.randint(3, 12))] for _ in range(2))
            theirs = 100 * meteor_score([reference], text, wordnet=NoSynonyms())
            ours = one(" ".join(text), " ".join(reference))["score"]
            assert ours >= theirs - 1e-9
            better += ours > theirs + 1e-9
        assert better > 20


def fewest_chunks(hypothesis, reference):
    """By trying every alignment of equal words: as many matches as can be, then as few chunks."""
    best = (0, 0)
    choices = [[None, *(j for j, other in enumerate(reference) if other == word)] for word in hypothesis]
    for places in itertools.product(*choices):
        taken = [place for place in places if place is not None]
        if len(set(taken)) == len(taken):
            matches, chunks = count_chunks(list(places))
            best = min(best, (-matches, chunks))
    return -best[0], best[1]


class TestAlignment:
    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.sampled_from("abc"), max_size=6), st.lists(st.sampled_from("abc"), max_size=6))
    def test_no_alignment_has_fewer_chunks(self, hypothesis, reference):
        assert count_chunks(Matcher().align(hypothesis, reference)) == fewest_chunks(hypothesis, reference)

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(st.sampled_from(["run", "runs", "running", "cat", "cats", "x"]), max_size=9),
        st.lists(st.sampled_from(["run", "runs", "running", "cat", "cats", "y"]), max_size=9),
    )
    def test_stages_match_as_many_as_there_are(self, hypothesis, reference):
        """Exact first: the overlap of the words; then stems: the overlap of the stems of what is left."""
        stem = stemmer("porter")
        places = Matcher(stem).align(hypothesis, reference)
        taken = [place for place in places if place is not None]
        assert len(set(taken)) == len(taken)
        equal = sum(p is not None and hypothesis[i] == reference[p] for i, p in enumerate(places))
        assert equal == sum((Counter(hypothesis) & Counter(reference)).values())
        assert all(p is None or stem(hypothesis[i]) == stem(reference[p]) for i, p in enumerate(places))
        assert len(taken) == sum((Counter(map(stem, hypothesis)) & Counter(map(stem, reference))).values())

    def test_an_exact_match_is_not_spent_on_a_stem(self):
        matcher = Matcher(stemmer("porter"))
        assert matcher.align(["run", "runs"], ["runs", "walk"]) == [None, 0]
        assert matcher.align(["run", "runs"], ["runs", "run"]) == [1, 0]

    def test_repeated_words_go_where_the_chunks_are_fewest(self):
        text, reference = ["the", "cat", "saw", "the", "dog"], ["the", "dog", "saw", "the", "cat"]
        assert Matcher().align(text, reference) == [3, 4, 2, 0, 1]
        assert Matcher().align(["a", "the", "dog"], ["the", "b", "the", "dog"]) == [None, 2, 3]

    def test_a_long_text_of_few_words_takes_moments(self):
        generator = random.Random(0)
        text, reference = ([generator.choice("abcdefgh") for _ in range(200)] for _ in range(2))
        begun = time.process_time()
        places = Matcher().align(text, reference)
        assert time.process_time() - begun < 10
        assert count_chunks(places)[0] == sum((Counter(text) & Counter(reference)).values())


class TestSynonyms:
    def test_either_side_may_name_the_other(self):
        plain = one("a big auto", "a big car")
        for table in ({"auto": ["car"]}, {"Car": {"Auto", "vehicle"}}):
            assert plain["matches"] == 2 and one("a big auto", "a big car", synonyms=table)["matches"] == 3

    def test_a_synonym_comes_after_exact_and_stem(self):
        table = {"car": {"cars", "auto"}}
        matcher = Matcher(stemmer("porter"), table)
        assert matcher.align(["car", "auto"], ["cars", "car"]) == [1, None]
        assert matcher.align(["car"], ["auto", "cars"]) == [1]

    def test_a_file_of_one_set_a_line(self, tmp_path):
        path = tmp_path / "synonyms.txt"
        path.write_text("# sets\nAa01A01= 人 士 人物\nauto, car vehicle\nalone\ncar wagon\n", encoding="utf-8")
        table = read_synonyms(path)
        assert table["人"] == {"士", "人物"} and table["car"] == {"auto", "vehicle", "wagon"} and "alone" not in table
        assert one("一 个 人物", "一 个 人", language="zh", synonyms=path)["matches"] == 3

    @pytest.mark.parametrize(
        ("content", "message"), [(b"alone\n", "no line"), (b"\xff\xfe\x00", "UTF-8"), (None, "cannot be read")]
    )
    def test_a_file_that_is_none(self, tmp_path, content, message):
        path = tmp_path / "synonyms.txt"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(LLMBertError, match=message):
            one("a", "a", synonyms=str(path))
