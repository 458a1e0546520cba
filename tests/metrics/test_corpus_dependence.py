"""Entropy, information at a distance, collocations and divergence, each beside the slow sum it stands for."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.sparse import csr_matrix
from scipy.spatial.distance import jensenshannon

from llmbert.metrics.corpus import entropy
from llmbert.metrics.corpus.collocations import pair_counts, score_pairs
from llmbert.metrics.corpus.divergence import (
    chance_bits,
    contributions,
    jensen_shannon_bits,
    kullback_leibler_bits,
)

texts = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=12), min_size=1, max_size=8)
counts = st.lists(st.integers(0, 50), min_size=4, max_size=4).filter(any)


def flat(given_texts: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    ids = np.array([each for text in given_texts for each in text], dtype=np.int32)
    return ids, np.repeat(np.arange(len(given_texts)), [len(text) for text in given_texts])


def slow_entropy(things: Counter) -> float:  # type: ignore[type-arg]
    total = sum(things.values())
    return -sum(n / total * math.log2(n / total) for n in things.values())


@given(counts)
def test_entropy_is_scipys(some: list[int]) -> None:
    assert entropy.entropy_bits(np.array(some)) == pytest.approx(stats.entropy(some, base=2), abs=1e-9)


def test_miller_and_madow_take_the_first_of_the_bias_away() -> None:
    generator = np.random.default_rng(0)
    raw, corrected = [], []
    for _ in range(200):
        some = generator.multinomial(300, np.full(64, 1 / 64))
        raw.append(entropy.entropy_bits(some))
        corrected.append(entropy.miller_madow_bits(some))
    assert abs(np.mean(corrected) - 6) < 0.2 * abs(np.mean(raw) - 6)


@given(texts, st.integers(2, 7))
def test_blocks_are_those_of_each_document(given_texts: list[list[int]], most: int) -> None:
    ids, documents = flat(given_texts)
    rows = entropy.block_entropies(ids, documents, most)
    for n in range(1, most + 1):
        blocks = Counter(tuple(text[i : i + n]) for text in given_texts for i in range(len(text) - n + 1))
        if blocks.total() < 2:
            assert len(rows) < n
            break
        row = rows[n - 1]
        firsts: Counter = Counter()  # type: ignore[type-arg]
        for block, count in blocks.items():
            firsts[block[:-1]] += count
        assert (row["n"], row["blocks"], row["kinds"]) == (n, blocks.total(), len(blocks))
        assert row["entropy"] == pytest.approx(slow_entropy(blocks), abs=1e-9)
        assert row["conditional"] == pytest.approx(slow_entropy(blocks) - slow_entropy(firsts), abs=1e-9)
        assert row["seen_once"] == pytest.approx(sum(c == 1 for c in blocks.values()) / blocks.total())


def test_blocks_of_a_large_alphabet_are_numbered_anew_and_stay_right(monkeypatch: pytest.MonkeyPatch) -> None:
    ids, documents = flat([np.random.default_rng(1).integers(0, 6, 400).tolist(), [1, 2, 3, 4]])
    plain = entropy.block_entropies(ids, documents, 5)
    monkeypatch.setattr(entropy, "KEY_LIMIT", 700)
    assert entropy.block_entropies(ids, documents, 5) == plain


def test_a_markov_chain_has_the_entropy_it_was_made_with_and_random_text_is_called_undersampled() -> None:
    generator = np.random.default_rng(3)
    ids = (np.cumsum(generator.random(200_000) < 0.11) % 2).astype(np.int32)  # stays with probability 0.89
    rows = entropy.block_entropies(ids, np.zeros(len(ids)), 4)
    rate = stats.entropy([0.89, 0.11], base=2)
    assert rows[0]["conditional"] == pytest.approx(1, abs=1e-3)
    assert [row["conditional_corrected"] for row in rows[1:]] == pytest.approx([rate] * 3, abs=0.005)
    assert not any(row["undersampled"] for row in rows)
    noise = entropy.block_entropies(generator.integers(0, 50, 5000), np.zeros(5000), 4)
    assert [row["undersampled"] for row in noise] == [False, True, True, True]


@given(texts, st.integers(1, 4))
def test_information_at_a_distance_is_that_of_the_pairs(given_texts: list[list[int]], d: int) -> None:
    ids, documents = flat(given_texts)
    pairs = Counter((text[i], text[i + d]) for text in given_texts for i in range(len(text) - d))
    rows = entropy.information_at_distances(ids, documents, [d], least=1)
    assert len(rows) == bool(pairs)
    if pairs:
        sides: list[Counter] = [Counter(), Counter()]  # type: ignore[type-arg]
        for pair, count in pairs.items():
            for side, symbol in zip(sides, pair, strict=True):
                side[symbol] += count
        slow = slow_entropy(sides[0]) + slow_entropy(sides[1]) - slow_entropy(pairs)
        assert rows[0]["pairs"] == pairs.total() and rows[0]["bits"] == pytest.approx(slow, abs=1e-9)


def test_what_repeats_informs_at_its_period_and_shuffled_text_says_how_much_is_chance() -> None:
    pattern = np.random.default_rng(4).integers(0, 40, 30)
    ids = np.tile(pattern, 300).astype(np.int32)
    noise = np.random.default_rng(5).integers(0, 40, len(ids)).astype(np.int32)
    documents = np.zeros(len(ids), dtype=np.int32)
    rows = entropy.information_at_distances(ids, documents, [30])
    assert rows[0]["bits"] == pytest.approx(entropy.entropy_bits(np.bincount(ids)), abs=1e-3)
    chance = entropy.information_at_distances(noise, documents, [1, 30], seed=1)
    assert all(row["bits"] > 0.05 and abs(row["above"]) < 0.02 for row in chance)
    assert entropy.information_at_distances(ids, documents, [20_000]) == []


@given(st.lists(st.integers(0, 30), min_size=1, max_size=200), st.integers(2, 10))
def test_rare_symbols_count_as_one(ids: list[int], most: int) -> None:
    merged, base = entropy.merged_alphabet(np.array(ids), most)
    ranked = [symbol for symbol, _ in sorted(Counter(ids).items(), key=lambda each: (-each[1], each[0]))]
    assert base == min(most, len(ranked))
    assert merged.tolist() == [min(ranked.index(symbol), most - 1) for symbol in ids]


@given(texts)
def test_collocations_are_scored_by_the_table_of_each_pair(given_texts: list[list[int]]) -> None:
    pairs = [pair for text in given_texts for pair in pairwise(text)]
    first, second, times = pair_counts(*flat(given_texts))
    assert {(a, b): n for a, b, n in zip(first, second, times, strict=True)} == Counter(pairs)
    if not pairs:
        return
    scores = score_pairs(first, second, times)
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        table = np.zeros((2, 2))
        for x, y in pairs:
            table[int(x != a), int(y != b)] += 1
        expected = table[0].sum() * table[:, 0].sum() / len(pairs)
        pmi = math.log2(table[0, 0] / expected)
        assert scores["pmi"][i] == pytest.approx(pmi, abs=1e-9)
        if table[0, 0] < len(pairs):
            assert scores["npmi"][i] == pytest.approx(pmi / -math.log2(table[0, 0] / len(pairs)), abs=1e-9)
        assert -1 - 1e-9 <= scores["npmi"][i] <= 1 + 1e-9
        if (table.sum(axis=0) > 0).all() and (table.sum(axis=1) > 0).all():
            ratio = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
            assert scores["ratio"][i] == pytest.approx(ratio, abs=1e-6)


@given(counts, counts)
def test_divergences_are_scipys(first: list[int], second: list[int]) -> None:
    p, q = np.array(first) / sum(first), np.array(second) / sum(second)
    bits = jensen_shannon_bits(np.array(first), np.array(second))
    assert bits == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-9)
    assert 0 <= bits <= 1 and bits == jensen_shannon_bits(np.array(second), np.array(first))
    assert (contributions(p, q) >= -1e-12).all()
    smooth = [np.array(side) + 0.5 for side in (first, second)]
    expected = stats.entropy(smooth[0], smooth[1], base=2)
    assert kullback_leibler_bits(np.array(first), np.array(second)) == pytest.approx(expected, abs=1e-9)


def documents_of(shares: np.ndarray, documents: int, words: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).multinomial(words, shares / shares.sum(), size=documents).astype(float)


RARE = 1 / np.arange(1, 20_001)  # many words, most of them met once or never


@pytest.mark.parametrize("words", [(100, 100), (20, 500)])
def test_texts_of_one_source_are_no_further_apart_than_chance_makes_them(words: tuple[int, int]) -> None:
    values = []
    for seed in range(12):
        sides = [csr_matrix(documents_of(RARE, 60, size, 2 * seed + i)) for i, size in enumerate(words)]
        found = chance_bits(*sides, deals=60, seed=seed)
        assert found is not None
        apart = jensen_shannon_bits(*(np.asarray(side.sum(axis=0)).ravel() for side in sides))
        assert apart > 0.1, "the plug-in knows nothing of chance"
        assert found["mean"] == pytest.approx(apart, rel=0.1)
        values.append(found["p"])
    assert sum(p <= 0.05 for p in values) <= 3 and max(values) > 0.3


def test_texts_of_two_sources_are_further_apart_than_chance_makes_them() -> None:
    other = RARE.copy()
    other[:20] = other[:20][::-1]
    sides = [documents_of(shares, 60, 100, i) for i, shares in enumerate((RARE, other))]
    found = chance_bits(*sides, deals=60)
    assert found is not None and found["p"] == pytest.approx(1 / 61)
    assert jensen_shannon_bits(*(side.sum(axis=0) for side in sides)) > found["interval"][1]
    sparse = chance_bits(*map(csr_matrix, sides), deals=60)
    assert sparse is not None and sparse["mean"] == pytest.approx(found["mean"]) and sparse["p"] == found["p"]
    assert chance_bits(np.ones((1, 3)), np.ones((5, 3))) is None
