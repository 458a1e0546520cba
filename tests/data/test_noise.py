"""Augmentation by rules: how much is changed, what never is, and that tags stay with their words."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmbert.data.curation.noise import (
    NEED_SYNONYMS,
    REACH,
    WAYS,
    Strength,
    Unit,
    Word,
    read_lexicon,
    tags_of,
    text_of,
    units_of_tags,
    units_of_text,
)
from llmbert.protocols import LLMBertError, UsageError
from llmbert.text.tags import find_scheme, mend_tags

KNOWN = {"good": ("fine", "great"), "film": ("movie",), "河": ("江",)}
LEXICON = Strength(0.2, lambda word: KNOWN.get(word, ()))


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def changed(way: str, text: str, seed: int = 0, strength: Strength = LEXICON) -> str:
    return text_of(WAYS[way](units_of_text(text), random(seed), strength))


def words_of(units: list[Unit]) -> list[str]:
    return [word.text for unit in units for word in unit]


TEXT = "A good film , the best film of the year , and not only a good story ."
TAGS = st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]), min_size=1, max_size=25)


class TestTags:
    @given(tags=TAGS, way=st.sampled_from(sorted(WAYS)), seed=st.integers(0, 99), share=st.sampled_from([0.1, 0.5, 1]))
    def test_every_kept_token_keeps_its_tag_and_spans_stay_whole(
        self, tags: list[str], way: str, seed: int, share: float
    ) -> None:
        tags = mend_tags(tags, "BIO")
        tokens = [6 * chr(97 + at) for at in range(len(tags))]  # each its own, and no slip makes one of another
        strength = Strength(share, lambda word: ("another",))
        units = WAYS[way](units_of_tags(tokens, tags), random(seed), strength)
        new, new_tags = tags_of(units)
        assert len(new) == len(new_tags) > 0
        assert mend_tags(new_tags, "BIO") == new_tags  # valid as it stands
        own = dict(zip(tokens, tags, strict=True))
        for token, tag in zip(new, new_tags, strict=True):
            if token in own:
                assert tag == own[token]
            elif way != "noise":
                assert tag == "O" and token in ("another", "_")
        if way != "noise":
            # every span that is left is one that was there, word for word
            spans = {tuple(w.text for w in unit) for unit in units_of_tags(tokens, tags) if unit[0].tag != "O"}
            assert {tuple(w.text for w in unit) for unit in units_of_tags(new, new_tags) if unit[0].tag != "O"} <= spans

    @pytest.mark.parametrize(
        ("tags", "sizes"),
        [
            (["B-A", "I-A", "O", "B-A", "B-A"], [2, 1, 1, 1]),
            (["B-A", "I-B", "E-B"], [1, 2]),
            (["B-A", "I-A", "E-A", "S-A", "O"], [3, 1, 1]),
            (["B-A", "M-A", "E-A", "S-A"], [3, 1]),
            (["B-A", "L-A", "U-B", "NN", "VB"], [2, 1, 1, 1]),
        ],
    )
    def test_spans_of_every_scheme_are_units(self, tags: list[str], sizes: list[int]) -> None:
        units = units_of_tags([str(at) for at in range(len(tags))], tags)
        assert [len(unit) for unit in units] == sizes
        assert tags_of(units)[1] == tags


class TestWays:
    @given(text=st.text(max_size=80), way=st.sampled_from(sorted(WAYS)), seed=st.integers(0, 20))
    def test_any_text_comes_back_as_some_text_and_the_same_again(self, text: str, way: str, seed: int) -> None:
        units = units_of_text(text)
        if not units:
            return
        before = list(units)
        one, again = (WAYS[way](units, random(seed), LEXICON) for _ in range(2))
        assert one == again and units == before and one and all(word.text for unit in one for word in unit)

    def test_synonyms_take_the_place_of_as_many_words_as_asked(self) -> None:
        for seed in range(20):
            new = changed("synonym", TEXT, seed).split()
            pairs = [(a, b) for a, b in zip(TEXT.split(), new, strict=True) if a != b]
            assert len(pairs) == round(0.2 * len(TEXT.split()))
            assert all(b in KNOWN[a] for a, b in pairs)

    def test_capitals_and_marks_stay(self) -> None:
        assert changed("synonym", "“Film!”") == "“Movie!”"
        assert changed("synonym", "FILM") == "MOVIE"

    def test_insertion_adds_synonyms_and_keeps_the_rest_in_order(self) -> None:
        new = changed("insert", TEXT, 3).split()
        added = Counter(new) - Counter(TEXT.split())
        assert added.total() == round(0.2 * len(TEXT.split())) and set(added) <= {"fine", "great", "movie"}
        rest = iter(new)
        assert all(word in rest for word in TEXT.split())

    @pytest.mark.parametrize("way", ["swap", "order", "shuffle-sentences"])
    def test_moving_keeps_every_word(self, way: str) -> None:
        text = TEXT + " " + "It rains . We stay home ."
        assert sorted(changed(way, text, 2).split()) == sorted(text.split()) and changed(way, text, 2) != text

    def test_a_new_order_moves_no_word_far(self) -> None:
        units = [(Word(str(at)),) for at in range(200)]
        moved = [int(word) for word in words_of(WAYS["order"](units, random(), LEXICON))]
        assert max(abs(at - was) for at, was in enumerate(moved)) <= REACH

    @pytest.mark.parametrize("way", ["delete", "mask"])
    def test_each_word_goes_by_chance(self, way: str) -> None:
        units = [(Word(f"w{at}"),) for at in range(20_000)]
        left = [word for word in words_of(WAYS[way](units, random(), LEXICON)) if word != "_"]
        assert 0.79 < len(left) / 20_000 < 0.81

    def test_the_last_word_never_goes(self) -> None:
        assert changed("delete", "word", strength=Strength(1.0)) == "word"

    def test_a_crop_is_a_stretch(self) -> None:
        for seed in range(30):
            new = changed("crop", TEXT, seed)
            whole = len(TEXT.split())
            assert new in TEXT and whole - round(0.6 * whole) <= len(new.split()) < whole

    def test_a_sentence_goes(self) -> None:
        text = "It rained. We stayed home. Nobody came."
        left = {changed("drop-sentence", text, seed) for seed in range(20)}
        assert left == {"We stayed home. Nobody came.", "It rained. Nobody came.", "It rained. We stayed home."}
        assert changed("drop-sentence", "Only one.") == "Only one."

    def test_typing_errors_are_such(self) -> None:
        for seed in range(40):
            new = changed("noise", "wonderful", seed)
            assert abs(len(new) - 9) <= 1
            if len(new) == 9 and sorted(new) != sorted("wonderful"):
                at = next(i for i in range(9) if new[i] != "wonderful"[i])
                assert new[:at] + "wonderful"[at] + new[at + 1 :] == "wonderful"
                assert new[at] in _near("wonderful"[at])

    def test_keys_lie_beside_one_another_both_ways(self) -> None:
        assert _near("a") == set("qwsz") and _near("g") == set("tyfhvb") and _near("p") == set("ol")
        for key in "qwertyuiopasdfghjklzxcvbnm":
            assert all(key in _near(other) for other in _near(key))


def _near(key: str) -> set[str]:
    from llmbert.data.curation.noise import _KEYS

    return set(_KEYS[key])


class TestChinese:
    def test_words_touch_and_marks_stay(self) -> None:
        text = "春江潮水连海平,海上明月共潮生。"
        assert text_of(units_of_text(text)) == text
        assert text_of(units_of_text("我爱 Python 语言")) == "我爱 Python 语言"
        assert words_of(units_of_text("明月共潮生", lambda run: [run[:2], run[2:]])) == ["明月", "共潮生"]

    @pytest.mark.parametrize("way", sorted(set(WAYS) - {*NEED_SYNONYMS, "mask"}))
    def test_every_way_stays_with_the_texts_own_characters(self, way: str) -> None:
        text = "春江潮水连海平。海上明月共潮生。"
        units = units_of_text(text, lambda run: [run[at : at + 2] for at in range(0, len(run), 2)])
        new = text_of(WAYS[way](units, random(2), LEXICON))
        assert new and set(new) <= set(text)

    def test_synonyms_too(self) -> None:
        assert changed("synonym", "河") == "江"


class TestWhatIsAsked:
    def test_a_lexicon(self) -> None:
        lines = ["# words\n", "\n", "Good\tfine\tgreat\n", "good\tfine\tnice\n", "well off\trich\n"]
        assert read_lexicon(lines, "x") == {"good": ("fine", "great", "nice"), "well off": ("rich",)}

    @pytest.mark.parametrize("line", ["good\n", "good\t\n", "\tfine\n"])
    def test_a_line_without_synonyms_is_named(self, line: str) -> None:
        with pytest.raises(LLMBertError, match=r"lexicon\.tsv, line 2 names no synonym"):
            read_lexicon(["a\tb\n", line], "lexicon.tsv")

    @pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
    def test_a_strength_that_is_none(self, share: Any) -> None:
        with pytest.raises(UsageError, match="strength"):
            Strength(share)

    def test_schemes_are_known(self) -> None:
        assert find_scheme(["B-A", "I-A", "O"]) == "BIO"
