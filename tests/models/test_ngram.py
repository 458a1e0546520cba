"""N-gram models: what they estimate, against a textbook in plain Python and published figures, and how they behave."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llmbert.models.ngram import NGram, NGramSettings
from llmbert.models.ngram.counts import count_ngrams
from llmbert.models.ngram.smoothing import estimate
from llmbert.protocols import LLMBertError, Scorer, Stepper

DATA = Path(__file__).parents[3] / "shared" / "data"
PADDING, UNKNOWN, BEGIN, END = 0, 1, 2, 3
SMOOTHINGS = ("kneser-ney", "ml", "additive")

documents_of_words = st.lists(st.lists(st.integers(4, 8), max_size=12), min_size=1, max_size=12)


def pack(documents: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Documents in the form a corpus has: begin, tokens, end, one after another, and where each begins."""
    framed = [[BEGIN, *document, END] for document in documents]
    ids = np.array([token for document in framed for token in document], np.uint16)
    return ids, np.cumsum([0, *map(len, framed)])


def fit(documents: list[list[int]], vocabulary_size: int = 10, **kwargs) -> NGram:
    return NGram.fit(*pack(documents), vocabulary_size, NGramSettings(**kwargs))


def corpus(seed: int = 0, documents: int = 300, words: int = 40) -> list[list[int]]:
    """Random documents whose words repeat as words do, so that all counts of counts are there."""
    random = np.random.default_rng(seed)
    return [(4 + np.minimum(random.zipf(1.4, random.integers(1, 15)), words - 5)).tolist() for _ in range(documents)]


class Textbook:
    """Modified Kneser-Ney as Chen & Goodman (1999) write it, in dictionaries of tuples."""

    def __init__(self, documents: list[list[int]], order: int, vocabulary_size: int) -> None:
        self.order = order
        self.predicted = vocabulary_size - 2
        raw: Counter[tuple[int, ...]] = Counter()
        left: dict[tuple[int, ...], set[int]] = defaultdict(set)
        for document in documents:
            text = [BEGIN, *document, END]
            for n in range(1, order + 1):
                for i in range(len(text) - n + 1):
                    gram = tuple(text[i : i + n])
                    raw[gram] += 1
                    if i and n < order:
                        left[gram].add(text[i - 1])
        self.counts = {
            gram: count if len(gram) == order or gram[0] == BEGIN else len(left[gram])
            for gram, count in raw.items()
            if gram != (BEGIN,)
        }
        self.after: dict[tuple[int, ...], dict[int, int]] = defaultdict(dict)
        for gram, count in self.counts.items():
            self.after[gram[:-1]][gram[-1]] = count
        self.discounts = [self._discounts(n) for n in range(1, order + 1)]

    def _discounts(self, n: int) -> list[float]:
        counts = Counter(count for gram, count in self.counts.items() if len(gram) == n)
        if not (counts[1] and counts[2] and counts[3]):
            return [0, 0.5, 1, 1.5]
        y = counts[1] / (counts[1] + 2 * counts[2])
        found = [0] + [j - (j + 1) * y * counts[j + 1] / counts[j] for j in (1, 2, 3)]
        return found if all(0 < found[j] <= j for j in (1, 2, 3)) else [0, 0.5, 1, 1.5]

    def probability(self, word: int, context: tuple[int, ...]) -> float:
        context = context[len(context) - min(len(context), self.order - 1) :]
        lower = 1 / self.predicted if not context else self.probability(word, context[1:])
        counts = self.after.get(context)
        if not counts:
            return lower
        discounts = self.discounts[len(context)]
        total = sum(counts.values())
        left = sum(discounts[min(count, 3)] for count in counts.values())
        count = counts.get(word, 0)
        return (count - discounts[min(count, 3)]) / total + left / total * lower


# --- What is estimated ---


@settings(max_examples=60, deadline=None)
@given(documents_of_words, st.integers(1, 5))
def test_kneser_ney_equals_the_textbook_on_every_ngram_of_any_corpus(documents, order):
    textbook = Textbook(documents, order, 10)
    levels = count_ngrams(*pack(documents), 10, order)
    grams: list[tuple[int, ...]] = [(word,) for word in range(10)]
    for n, (level, estimated) in enumerate(zip(levels, estimate(levels, "kneser-ney", 1, BEGIN, PADDING), strict=True)):
        if n:
            grams = [(*grams[p], w) for p, w in zip(level.parents.tolist(), level.words.tolist(), strict=True)]
            assert sorted(grams) == sorted(gram for gram in textbook.counts if len(gram) == n + 1)
        for gram, probability in zip(grams, estimated.probability.tolist(), strict=True):
            if gram[-1] not in (BEGIN, PADDING):
                assert probability == pytest.approx(textbook.probability(gram[-1], gram[:-1]), abs=1e-9)


def test_discounts_come_from_the_counts_where_these_give_them_and_fall_back_where_not():
    documents = corpus()
    model = fit(documents, 40, order=3)
    textbook = Textbook(documents, 3, 40)
    assert np.allclose(model.config()["discounts"], [discounts[1:] for discounts in textbook.discounts])
    assert (0.5, 1, 1.5) not in model.settings.discounts[1:]
    assert fit([[4, 5]], order=2).config()["discounts"] == [[0.5, 1, 1.5]] * 2


@settings(max_examples=40, deadline=None)
@given(documents_of_words, st.integers(1, 5), st.lists(st.integers(1, 9), max_size=7), st.booleans())
def test_the_model_equals_the_textbook_after_any_context(documents, order, context, begun):
    textbook = Textbook(documents, order, 10)
    context = [token for token in context if token != BEGIN]
    context = [BEGIN, *context] if begun else context
    got = fit(documents, order=order).next_distribution([context])[0]
    want = [0 if w in (PADDING, BEGIN) else textbook.probability(w, tuple(context)) for w in range(10)]
    assert got == pytest.approx(want, rel=2e-6)


@settings(max_examples=40, deadline=None)
@given(documents_of_words, st.integers(1, 4), st.lists(st.integers(1, 9), max_size=6), st.floats(1e-3, 10))
def test_additive_adds_alpha_to_the_counts_after_the_longest_context(documents, order, context, alpha):
    context = [token for token in context if token != BEGIN]
    got = fit(documents, order=order, smoothing="additive", alpha=alpha).next_distribution([context])[0]
    h = context[max(0, len(context) - order + 1) :]
    counts = Counter(following for following, *_ in _continuations(documents, h))
    total = sum(counts.values()) + alpha * 8
    want = [0 if w in (PADDING, BEGIN) else (counts[w] + alpha) / total for w in range(10)]
    assert got == pytest.approx(want, rel=2e-6)


@settings(max_examples=40, deadline=None)
@given(documents_of_words, st.integers(1, 4), st.lists(st.integers(1, 9), max_size=6))
def test_maximum_likelihood_is_relative_frequency_after_the_longest_context_seen(documents, order, context):
    context = [token for token in context if token != BEGIN]
    got = fit(documents, order=order, smoothing="ml").next_distribution([context])[0]
    h = context[max(0, len(context) - order + 1) :]
    while not _continuations(documents, h):
        h = h[1:]
    counts = Counter(following for following, *_ in _continuations(documents, h))
    assert got == pytest.approx([counts[w] / sum(counts.values()) for w in range(10)], rel=2e-6)


def _continuations(documents: list[list[int]], context: list[int]) -> list[tuple[int]]:
    """Every token that follows `context` somewhere in the documents."""
    found = []
    for document in documents:
        text = [BEGIN, *document, END]
        for i in range(max(1, len(context)), len(text)):
            if text[i - len(context) : i] == context:
                found.append((text[i],))
    return found


@settings(max_examples=80, deadline=None)
@given(
    documents_of_words,
    st.integers(1, 6),
    st.sampled_from(SMOOTHINGS),
    st.lists(st.lists(st.integers(0, 9), max_size=8), min_size=1, max_size=4),
)
def test_probabilities_sum_to_one_after_any_context(documents, order, smoothing, contexts):
    got = fit(documents, order=order, smoothing=smoothing).next_distribution(contexts)
    assert got.shape == (len(contexts), 10)
    assert got.sum(1) == pytest.approx(1, abs=2e-6)
    assert (got[:, [PADDING, BEGIN]] == 0).all()


def test_ngrams_do_not_cross_documents():
    apart, joined = fit([[4, 5], [6, 7]], order=2), fit([[4, 5, 6, 7]], order=2)
    assert [apart.counts(), joined.counts()] == [
        [
            8,
            6,
        ][:2],
        [8, 5],
    ]
    levels = count_ngrams(*pack([[4, 5], [6, 7]]), 10, 3)
    parents = levels[2].parents
    trigrams = {(*_bigram(levels, p), w) for p, w in zip(parents.tolist(), levels[2].words.tolist(), strict=True)}
    assert trigrams == {(BEGIN, 4, 5), (4, 5, END), (BEGIN, 6, 7), (6, 7, END)}


def _bigram(levels, node: int) -> tuple[int, int]:
    return int(levels[1].parents[node]), int(levels[1].words[node])


def test_a_begin_token_inside_a_document_parts_it_in_two():
    ids, _ = pack([[4, 5], [6, 7]])
    as_one = NGram.fit(ids, np.array([0, len(ids)]), 10, NGramSettings(order=3))
    contexts = [[], [4], [BEGIN], [5, END], [END, BEGIN], [BEGIN, 6]]
    apart = fit([[4, 5], [6, 7]], order=3)
    assert np.array_equal(as_one.next_distribution(contexts), apart.next_distribution(contexts))


def test_fitting_twice_gives_the_same_bits():
    first, second = (fit(corpus(), 40, order=4).tensors() for _ in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_order_longer_than_every_document_is_no_obstacle():
    model = fit([[4, 5], [5]], order=9)
    assert model.counts()[-4:] == [0, 0, 0, 0]
    assert np.isfinite(model.token_nats(*pack([[4, 5, 5, 5, 5, 5, 5, 5, 5, 5, 4]]))).all()
    assert model.next_distribution([[BEGIN, 4, 5, END, 4, 5, 6, 7, 8]]).sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("ids", "starts", "message"),
    [
        ([4, 5, END], [0, 3], "begin token"),
        ([BEGIN, PADDING, END], [0, 3], "padding"),
        ([BEGIN, 400, END], [0, 3], "outside the vocabulary"),
        ([BEGIN, 4, END], [0, 2], "starts"),
        ([], [0], "not one token"),
        ([BEGIN], [0, 1], "not one token"),
    ],
)
def test_documents_of_the_wrong_form_are_refused(ids, starts, message):
    with pytest.raises(LLMBertError, match=message):
        NGram.fit(np.array(ids, np.int32), np.array(starts), 10)


@pytest.mark.parametrize("wrong", [{"order": 0}, {"smoothing": "katz"}, {"alpha": 0}, {"alpha": math.inf}, {"n": 3}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValidationError):
        NGramSettings(**wrong)


def test_fitting_tells_its_progress_to_the_end():
    told = []
    ids, starts = pack([[4, 5]])
    NGram.fit(ids, starts, 10, NGramSettings(order=3), lambda *stage, **figures: told.append(stage))
    assert ("counting n-grams", 3, 3) in told
    assert told[-1] == ("estimating n-grams", 3, 3)


# --- Scoring and stepping ---


def test_it_is_a_stepper_and_a_scorer():
    model = fit([[4, 5]])
    assert isinstance(model, Stepper) and isinstance(model, Scorer)
    assert model.likelihood == "exact" and model.max_length is None


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 5])
def test_steps_logits_and_scores_agree(smoothing, order):
    model = fit(corpus(), 40, order=order, smoothing=smoothing)
    ids, starts = pack(corpus(1, documents=20, words=44))  # some words of it were never seen
    ids = np.where(ids >= 40, UNKNOWN, ids).astype(np.int64)
    packed = torch.from_numpy(ids)[None]
    whole = model.logits(packed)
    assert whole.shape == (1, len(ids), 40) and whole.dtype == torch.float32

    state, stepped, at = model.start(1), [], 0
    for size in [1, 1, 3, 1, 7] * len(ids):
        if at < len(ids):
            logits, state = model.step(packed[:, at : at + size], state)
            stepped.append(logits)
            at += size
    assert torch.equal(torch.cat(stepped, 1), whole)
    assert state.lengths.tolist() == [len(ids)]

    nats = model.token_nats(ids, starts)
    followed = -whole[0, :-1].gather(1, packed[0, 1:, None])[:, 0].numpy()
    scored = np.setdiff1d(np.arange(1, len(ids)), starts)
    assert nats[scored] == pytest.approx(followed[scored - 1], abs=1e-5)
    assert (nats[starts[:-1]] == 0).all()
    assert np.isinf(nats).any() == (smoothing == "ml")


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 5])
def test_logits_of_some_places_are_those_of_all(smoothing, order):
    model = fit(corpus(), 40, order=order, smoothing=smoothing)
    ids = torch.from_numpy(pack(corpus(3, documents=12))[0][:60].astype(np.int64)).view(3, 20)
    wanted = torch.rand(3, 20, generator=torch.Generator().manual_seed(order)) < 0.4
    assert torch.equal(model.logits_at(ids, wanted), model.logits(ids)[wanted])
    assert model.logits_at(ids, torch.zeros_like(wanted)).shape == (0, 40)


def test_a_text_longer_than_what_is_scored_at_once_has_no_seams(monkeypatch):
    model = fit(corpus(), 40, order=4)
    ids, starts = pack(corpus(2, documents=30))
    whole = model.token_nats(ids, starts)
    monkeypatch.setattr("llmbert.models.ngram.model._SCORED_AT_ONCE", 7)
    assert np.array_equal(model.token_nats(ids, starts), whole)


def test_many_rows_of_logits_have_no_seams(monkeypatch):
    model = fit(corpus(), 40, order=4)
    ids = torch.from_numpy(pack(corpus(2, documents=9))[0].astype(np.int64))[None]
    whole = model.logits(ids)
    monkeypatch.setattr("llmbert.models.ngram.model._CELLS_AT_ONCE", 100)
    assert torch.equal(model.logits(ids), whole)


def test_each_document_is_scored_as_if_it_were_alone():
    model = fit(corpus(), 40, order=4)
    documents = corpus(3, documents=6)
    together = model.token_nats(*pack(documents))
    assert np.array_equal(together, np.concatenate([model.token_nats(*pack([document])) for document in documents]))


def test_a_score_of_ids_from_another_vocabulary_is_refused():
    model = fit([[4, 5]])
    with pytest.raises(LLMBertError, match="outside"):
        model.token_nats(np.array([BEGIN, 99, END]), np.array([0, 3]))
    with pytest.raises(LLMBertError, match="outside"):
        model.step(torch.tensor([[99]]), model.start(1))


def test_padding_before_a_row_counts_as_nothing():
    model = fit(corpus(), 40, order=4, smoothing="additive")
    row = [BEGIN, 4, 5, 6]
    padded = torch.tensor([[PADDING] * 3 + row])
    assert torch.equal(model.logits(padded)[:, 3:], model.logits(torch.tensor([row])))


def test_the_state_selects_joins_and_rewinds_rows():
    model = fit(corpus(), 40, order=4)
    texts = torch.from_numpy(np.random.default_rng(0).integers(4, 12, (3, 30)))
    _, state = model.step(texts, model.start(3))
    state = state.select(torch.tensor([2, 0, 0])).rewind(torch.tensor([0, 5, 29]))
    _, other = model.step(texts[1:2, :9], model.start(1))
    state = state.extend(other)
    assert state.lengths.tolist() == [30, 25, 1, 9]
    logits, state = model.step(torch.full((4, 1), 4), state)
    histories = [texts[2], texts[0, :25], texts[0, :1], texts[1, :9]]
    for row, history in zip(logits, histories, strict=True):
        alone = model.logits(torch.cat([history, torch.tensor([4])])[None])[0, -1]
        assert torch.equal(row[0], alone)


def test_rewinding_reaches_64_tokens_back_but_not_into_what_is_forgotten():
    model = fit(corpus(), 40, order=4)
    text = torch.from_numpy(np.random.default_rng(0).integers(4, 12, (2, 200)))
    _, state = model.step(text, model.start(2))
    back = state.rewind(40).rewind(24)
    assert torch.equal(model.step(text[:, 136:137], back)[0], model.logits(text)[:, 136:137])
    with pytest.raises(LLMBertError, match="rewind"):
        back.rewind(1)
    with pytest.raises(LLMBertError, match="rewind"):
        state.rewind(torch.tensor([0, 65]))
    with pytest.raises(LLMBertError, match="rewound"):
        state.rewind(-1)
    _, short = model.step(text[:, :5], model.start(2))
    assert short.rewind(5).lengths.tolist() == [0, 0]
    with pytest.raises(LLMBertError, match="rewound"):
        short.rewind(6)


def test_special_tokens_may_have_any_ids():
    ids, starts = pack(corpus())
    swapped = np.where(ids < 4, 39 - ids, np.where(ids > 35, 39 - ids, ids))
    special = {"padding_id": 39, "unknown_id": 38, "begin_id": 37, "end_id": 36}
    model = NGram.fit(swapped, starts, 40, NGramSettings(order=4), **special)
    assert model.token_nats(swapped, starts) == pytest.approx(fit(corpus(), 40, order=4).token_nats(ids, starts))
    _, state = model.step(torch.zeros(1, 67, dtype=torch.int64), model.start(1))
    again, _ = model.step(torch.tensor([[5]]), state.rewind(67))
    assert torch.equal(again, model.logits(torch.tensor([[5]])))


# --- Saving ---


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_a_model_saved_and_loaded_is_the_same(smoothing, tmp_path):
    from safetensors.torch import load_file, save_file

    model = fit(corpus(), 40, order=4, smoothing=smoothing)
    save_file(model.tensors(), tmp_path / "model.safetensors")
    config = json.loads(json.dumps(model.config()))
    loaded = NGram.from_tensors(load_file(tmp_path / "model.safetensors"), config)
    assert loaded.config() == model.config()
    ids = torch.from_numpy(pack(corpus(1, 10))[0].astype(np.int64))[None]
    assert torch.equal(loaded.logits(ids), model.logits(ids))


def _changed(name: str, change):
    return lambda tensors, config: tensors.__setitem__(name, change(tensors[name].clone()))


def _put(index, value):
    def change(tensor):
        tensor = tensor.to(torch.int64) if tensor.dtype == torch.uint16 else tensor
        tensor[index] = value
        return tensor

    return change


DAMAGE = {
    "a tensor missing": lambda tensors, config: tensors.pop("words.3"),
    "a tensor too many": lambda tensors, config: tensors.update(extra=torch.zeros(1)),
    "a word beyond the vocabulary": _changed("words.2", _put(5, 40)),
    "a negative word": _changed("words.2", _put(5, -1)),
    "begin as a word to predict": _changed("words.3", _put(0, BEGIN)),
    "words out of order": _changed("words.2", _put([0, 1], torch.tensor([9, 8]))),
    "one word more": _changed("words.3", lambda words: torch.cat([words, words[:1]])),
    "children beyond the next level": _changed("children.1", _put(7, 10**6)),
    "children that only fit modulo 2³²": _changed("children.2", lambda c: c + 2**32 * (torch.arange(len(c)) == 3)),
    "negative children": _changed("children.1", _put(7, -1)),
    "children for fewer contexts": _changed("children.2", lambda children: children[:-1]),
    "probabilities for fewer words": _changed("log_probability.1", lambda logs: logs[:-1]),
    "a probability for begin": _changed("log_probability.1", _put(BEGIN, -1.0)),
    "a probability above one": _changed("log_probability.2", _put(3, 2.0)),
    "a probability that is no number": _changed("log_probability.2", _put(3, math.nan)),
    "an infinite backoff weight": _changed("backoff.2", _put(3, math.inf)),
    "a matrix": _changed("backoff.2", lambda weights: weights[None]),
    "words in fractions": _changed("words.2", lambda words: words.to(torch.float32)),
    "logs in bfloat16": _changed("backoff.2", lambda weights: weights.to(torch.bfloat16)),
    "a vocabulary too large": lambda tensors, config: config.update(vocabulary_size=2**31 - 1),
    "an order too large": lambda tensors, config: config.update(order=10**9),
    "special tokens outside": lambda tensors, config: config.update(end_id=4000),
    "special tokens alike": lambda tensors, config: config.update(end_id=BEGIN),
    "a smoothing unknown": lambda tensors, config: config.update(smoothing="magic"),
    "a setting unknown": lambda tensors, config: config.update(surprise=1),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_model_is_refused_in_one_sentence(damage):
    model = fit(corpus(), 40, order=3)
    tensors, config = model.tensors(), model.config()
    damage(tensors, config)
    with pytest.raises(LLMBertError) as refused:
        NGram.from_tensors(tensors, config)
    assert "\n" not in str(refused.value)


# --- Figures ---


@cache
def _lines(name: str) -> tuple[list[list[str]], list[list[str]]]:
    if not (DATA / name).is_dir():
        pytest.skip(f"the data set {name} is not on this machine")
    parts = []
    for part in ("train", "valid"):
        with gzip.open(DATA / name / f"{part}.txt.gz", "rt", encoding="utf-8") as file:
            parts.append([words for line in file.read().split("\n") if (words := line.split())])
    return parts[0], parts[1]


def _encode(train: list[list[str]], valid: list[list[str]]):
    ids: dict[str, int] = {}
    for line in train:
        for word in line:
            ids.setdefault(word, len(ids) + 4)
    encoded = [pack([[ids.get(word, UNKNOWN) for word in line] for line in part]) for part in (train, valid)]
    return encoded, len(ids) + 4


@pytest.mark.parametrize(("order", "perplexity"), [(3, 157.765), (5, 148.007)])
def test_penn_treebank_has_the_perplexity_that_kenlm_gives(order, perplexity):
    (train, valid), size = _encode(*_lines("ptb"))
    nats = NGram.fit(*train, size, NGramSettings(order=order)).token_nats(*valid)
    predicted = len(nats) - (len(valid[1]) - 1)
    assert math.exp(nats.sum(dtype=np.float64) / predicted) == pytest.approx(perplexity, abs=0.01)


@pytest.mark.parametrize(("order", "nats_per_character"), [(3, 1.993), (5, 1.503), (7, 1.453)])
def test_shakespeare_by_characters_has_the_published_nats(order, nats_per_character):
    if not (DATA / "tinyshakespeare").is_dir():
        pytest.skip("the data set tinyshakespeare is not on this machine")
    parts = []
    for part in ("train", "valid"):
        with gzip.open(DATA / "tinyshakespeare" / f"{part}.txt.gz", "rt", encoding="utf-8", newline="") as file:
            parts.append([list(file.read())])
    (train, valid), size = _encode(*parts)
    nats = NGram.fit(*train, size, NGramSettings(order=order)).token_nats(*valid)
    assert nats.sum(dtype=np.float64) / (len(nats) - 1) == pytest.approx(nats_per_character, abs=0.001)
