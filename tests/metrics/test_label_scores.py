"""Accuracy, macro-F1 and the F1 of spans, by hand and as properties."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.metrics import compare_labels, compare_spans, score_labels, score_spans
from llmbert.metrics.labels import Span, spans_of
from llmbert.protocols import LLMBertError, UsageError


class TestSpans:
    @pytest.mark.parametrize(
        ("tags", "spans"),
        [
            ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
            ("B-PER B-PER I-PER", [("PER", 0, 1), ("PER", 1, 3)]),
            ("S-PER B-LOC E-LOC O", [("PER", 0, 1), ("LOC", 1, 3)]),
            ("B-LOC I-LOC E-LOC E-LOC", [("LOC", 0, 3), ("LOC", 3, 4)]),
            ("B-NAME M-NAME E-NAME S-ORG", [("NAME", 0, 3), ("ORG", 3, 4)]),
            ("U-PER B-LOC I-LOC L-LOC", [("PER", 0, 1), ("LOC", 1, 4)]),
            ("I-PER I-PER B-PER I-LOC", [("PER", 0, 2), ("PER", 2, 3), ("LOC", 3, 4)]),  # IOB1, and a stray I
            ("O I-PER O I-PER", [("PER", 1, 2), ("PER", 3, 4)]),
            ("S-PER I-PER", [("PER", 0, 1), ("PER", 1, 2)]),
            ("B I O", [("", 0, 2)]),
            ("B-PER.NAM I-PER.NAM", [("PER.NAM", 0, 2)]),
            ("B-A-B I-A-B", [("A-B", 0, 2)]),
            ("O O", []),
            ("", []),
        ],
    )
    def test_what_tags_mark(self, tags, spans):
        assert spans_of(tags.split()) == [Span(*span) for span in spans]

    def test_an_unknown_tag_is_named_with_its_sentence(self):
        with pytest.raises(LLMBertError, match='Sentence 2 of predicted: The tag "PER"'):
            score_spans([["O"], ["PER"]], [["O"], ["O"]])

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.sampled_from(["O", "S-A", "AA", "AAA", "BB", "S-B"]), max_size=6))
    def test_bio_bioes_and_bmes_tell_the_same(self, pieces):
        schemes = []
        for inside, last, single in (("I", "I", "B"), ("I", "E", "S"), ("M", "E", "S")):
            tags = []
            for piece in pieces:
                if piece == "O":
                    tags.append("O")
                elif piece.startswith("S-"):
                    tags.append(f"{single}-{piece[2:]}")
                else:
                    tags += [f"B-{piece[0]}", *[f"{inside}-{piece[0]}"] * (len(piece) - 2), f"{last}-{piece[0]}"]
            schemes.append(spans_of(tags))
        assert schemes[0] == schemes[1] == schemes[2] and len(schemes[0]) == sum(piece != "O" for piece in pieces)

    def test_by_hand(self):
        true = [["B-PER", "I-PER", "O", "B-LOC"], ["B-ORG", "O"], ["O", "B-PER"]]
        predicted = [["B-PER", "I-PER", "O", "B-ORG"], ["B-ORG", "I-ORG"], ["O", "B-PER"]]
        scores = score_spans(predicted, true)
        micro = scores["span-f1"]
        assert micro["score"] == pytest.approx(50) and micro["precision"] == micro["recall"] == pytest.approx(50)
        assert micro["by_class"]["PER"] == {"precision": 100, "recall": 100, "f1": 100, "true": 2, "predicted": 2}
        assert micro["by_class"]["ORG"] == {"precision": 0, "recall": 0, "f1": 0, "true": 1, "predicted": 2}
        assert micro["by_class"]["LOC"]["predicted"] == 0
        assert scores["span-f1-macro"]["score"] == pytest.approx(100 / 3)
        assert micro["n"] == 3 and json.loads(json.dumps(scores, allow_nan=False)) == scores

    def test_no_span_anywhere(self):
        assert score_spans([["O"], ["O"]], [["O"], ["O"]])["span-f1"]["score"] == 0

    def test_two_taggers(self):
        true = [["B-X", "I-X", "O"]] * 40
        scores = compare_spans(true, [["B-X", "O", "O"]] * 20 + true[:20], true)
        assert scores["span-f1"]["better"] == scores["span-f1-macro"]["better"] == "a"
        assert scores["span-f1"]["difference"] == pytest.approx(50)

    @pytest.mark.parametrize(
        ("predicted", "true", "message"),
        [
            ([["O"]], [["O"], ["O"]], "1 predicted tag sequences and 2"),
            ([["O", "O"]], [["O"]], "Sentence 1 has 2 predicted tags and 1"),
            ([], [], "no tag sequences"),
            (["O"], ["O"], "list of tags"),
        ],
    )
    def test_what_does_not_fit(self, predicted, true, message):
        with pytest.raises(LLMBertError, match=message):
            score_spans(predicted, true)


class TestLabels:
    def test_by_hand(self):
        scores = score_labels(["a", "a", "b", "c"], ["a", "b", "b", "b"])
        assert scores["accuracy"]["score"] == 50
        by_class = scores["macro-f1"]["by_class"]
        assert by_class["a"]["f1"] == pytest.approx(100 * 2 / 3) and by_class["b"]["f1"] == pytest.approx(50)
        assert by_class["c"]["f1"] == 0 and by_class["c"]["true"] == 0
        assert scores["macro-f1"]["score"] == pytest.approx((200 / 3 + 50) / 3)
        json.dumps(scores, allow_nan=False)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30))
    def test_macro_f1_is_the_mean_of_each_classs_own(self, pairs):
        predicted, true = zip(*pairs, strict=True)
        expected = []
        for label in {*predicted, *true}:
            hits = sum(p == t == label for p, t in pairs)
            expected.append(200 * hits / (predicted.count(label) + true.count(label)))
        scores = score_labels(predicted, true, resamples=20)
        assert scores["macro-f1"]["score"] == pytest.approx(np.mean(expected))
        assert scores["accuracy"]["score"] == pytest.approx(100 * np.mean([p == t for p, t in pairs]))

    def test_many_classes_and_texts_share_rows_without_changing_the_figure(self):
        generator = np.random.default_rng(0)
        true = generator.integers(0, 600, 20_000)
        predicted = np.where(generator.random(20_000) < 0.7, true, generator.integers(0, 600, 20_000))
        result = score_labels(predicted.tolist(), true.tolist(), resamples=100)["macro-f1"]
        assert result["n"] == 20_000 and 65 < result["score"] < 75
        low, high = result["interval"]
        assert low < result["score"] < high and high - low < 3

    def test_two_classifiers(self):
        true = ["x", "y"] * 50
        result = compare_labels(true, ["x"] * 100, true)
        assert result["accuracy"]["better"] == result["macro-f1"]["better"] == "a"
        assert result["accuracy"]["p"] < 0.01 and result["accuracy"]["p_randomisation"] < 0.01
        assert compare_labels(["x"] * 100, ["x"] * 100, true)["macro-f1"]["better"] is None
        b_alone = score_labels(["x"] * 100, true)["macro-f1"]["score"]
        assert compare_labels(["z"] * 100, ["x"] * 100, true)["macro-f1"]["b"] == pytest.approx(b_alone)

    def test_what_does_not_fit(self):
        with pytest.raises(LLMBertError, match="1 predicted labels and 2 true"):
            score_labels(["a"], ["a", "b"])
        with pytest.raises(LLMBertError, match="no labels"):
            score_labels([], [])
        with pytest.raises(UsageError, match="all as text or all as numbers"):
            score_labels(["1", "2"], [1, 2])
