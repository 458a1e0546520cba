"""Who has the key finds the mark, who has another does not, and a text without it is not accused."""

from __future__ import annotations

import stat
import sys
from fractions import Fraction
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import llmbert
from llmbert.decoding import GreenLists
from llmbert.models import FAMILIES
from llmbert.protocols import LLMBertError, UsageError
from llmbert.runs import Run
from llmbert.text.tokenisers import train_tokeniser
from llmbert.trust.watermark import (
    binomial_tail,
    detect_in_documents,
    detect_watermark,
    green_marks,
    judge,
    read_key,
    write_key,
)

KEY, OTHER = bytes(range(7, 39)), bytes(range(8, 40))
BYTES = train_tokeniser("bytes", ["abc"])
SHAPES: dict[str, dict[str, Any]] = {
    "gpt": {"layers": 1, "width": 16, "heads": 2, "context": 48},
    "lstm": {"layers": 1, "width": 16},
    "gru": {"layers": 1, "width": 16},
    "vae": {"network": "gru", "width": 16, "latent": 4, "context": 48},
    "gan": {"width": 16, "context": 12},
    "transformer": {"layers": 1, "width": 16, "heads": 2, "inner": 32, "context": 300},
    "t5": {"layers": 1, "width": 16, "heads": 2, "context": 300},
    "bert": {"layers": 1, "width": 16, "heads": 2, "context": 48},
}


def run_of(family: str) -> Run:
    """A run over bytes whose weights are random: its texts have much entropy."""
    torch.manual_seed(0)
    kind = FAMILIES[family]
    model = kind.build(kind.settings_class()(**SHAPES[family]), BYTES.vocabulary_size)
    return Run(Path(family), model.eval(), BYTES, {"family": family})


class TestEveryFamily:
    @pytest.mark.parametrize("family", [name for name in SHAPES if name != "bert"])
    def test_a_marked_text_is_found_and_an_unmarked_is_not(self, family: str) -> None:
        run = run_of(family)
        source = {"source": "the river"} if run.reads_source else {"prompt": "the river"}
        plain = run.generate(**source, seed=1, max_tokens=250)
        run.mark(KEY)
        assert run.marked
        marked = run.generate(**source, seed=1, max_tokens=250)
        assert marked == run.generate(**source, seed=1, max_tokens=250) != plain
        assert detect_watermark(marked, run, KEY)["marked"]
        assert not detect_watermark(marked, run, OTHER)["marked"]
        assert not detect_watermark(plain, run, KEY)["marked"]
        run.mark(None)
        assert run.generate(**source, seed=1, max_tokens=250) == plain

    def test_many_together_and_by_beams(self) -> None:
        run = run_of("gpt")
        run.mark(KEY, strength=5.0)
        texts = run.generate_many(["a", "b", "c"], seed=3, max_tokens=250)
        texts.append(run.generate("d", beams=2, temperature=0.0, max_tokens=250))
        assert all(detect_watermark(text, run, KEY)["share"] > 0.7 for text in texts)

    def test_one_that_fills_gaps_carries_none(self) -> None:
        with pytest.raises(UsageError, match="from left to right"):
            run_of("bert").mark(KEY)


class TestWhatCounts:
    @given(
        ids=st.lists(st.integers(0, 9), max_size=60),
        width=st.integers(1, 3),
        reserved=st.sets(st.integers(0, 9), max_size=2),
    )
    def test_pairs_count_once_as_counted_one_by_one(self, ids: list[int], width: int, reserved: set[int]) -> None:
        lists = GreenLists(KEY, 0.5, width)
        green, counted = green_marks(np.array(ids, dtype=np.int32), lists, reserved)
        seen: set[tuple[int, ...]] = set()
        for place in range(len(ids)):
            gram = tuple(ids[place - width : place + 1]) if place >= width else ()
            counts = bool(gram) and gram not in seen and not reserved & {*gram}
            seen.add(gram)
            assert counted[place] == counts
            assert green[place] == (counts and bool(lists.rows(np.array([gram[:-1]]), 10)[0, gram[-1]]))

    @pytest.mark.parametrize("unit", ["a", "ab", "the ", "go on, "])
    def test_a_text_that_says_the_same_again_and_again_is_not_accused(self, unit: str) -> None:
        """Counted each time, some keys would find it marked beyond doubt."""
        text, beyond = unit * 200, 0
        for number in range(60):
            key = number.to_bytes(16, "big")
            found = detect_watermark(text, BYTES, key)
            assert not found["marked"] and found["counted"] <= len(unit)
            green, _ = green_marks(BYTES.encode(unit * 2), GreenLists(key))
            beyond += judge(int(green.sum()) * 200, found["counted"] * 200, 0.25)["marked"]
        assert beyond

    def test_texts_without_a_mark_are_judged_as_chance_has_it(self) -> None:
        """P(p <= level) <= level, for every level, over keys: the test is exact."""
        ids = np.random.default_rng(0).integers(4, 2000, (1000, 61))
        found = []
        for number, row in enumerate(ids):
            green, counted = green_marks(row, GreenLists(number.to_bytes(16, "big")))
            found.append(judge(int(green.sum()), int(counted.sum()), 0.25)["p"])
        for level in (0.5, 0.1, 0.01):
            rate = float(np.mean(np.array(found) <= level))
            assert 0.4 * level < rate < level + 3.5 * (level / 1000) ** 0.5

    def test_tokens_are_shown_with_their_colour(self) -> None:
        found = detect_watermark("aab", BYTES, KEY)
        lists = GreenLists(KEY)
        a, b = BYTES.encode("ab").tolist()
        colours = [bool(lists.greens(np.array([[a]]), np.array([token]))[0]) for token in (a, b)]
        assert found["tokens"] == [["a", None], ["a", colours[0]], ["b", colours[1]]]
        assert (found["counted"], found["green"]) == (2, sum(colours))

    def test_nothing_to_count(self) -> None:
        for text in ("", "x"):
            found = detect_watermark(text, BYTES, KEY)
            assert (found["z"], found["p"], found["marked"], found["needed"]) == (0.0, 1.0, False, None)


class TestTheFigures:
    @given(count=st.integers(0, 60), least=st.integers(-1, 61), chance=st.sampled_from([0.1, 0.25, 0.5, 0.9]))
    def test_the_tail_is_exact(self, count: int, least: int, chance: float) -> None:
        p = Fraction(chance)
        exact = sum(comb(count, k) * p**k * (1 - p) ** (count - k) for k in range(max(0, least), count + 1))
        assert binomial_tail(least, count, chance) == pytest.approx(float(exact), rel=1e-10, abs=0)

    @pytest.mark.parametrize(("least", "count"), [(60_000, 200_000), (50_000, 200_000), (51_000, 200_000), (8, 8)])
    def test_the_tail_of_many_is_scipys(self, least: int, count: int) -> None:
        stats = pytest.importorskip("scipy.stats")
        assert binomial_tail(least, count, 0.25) == pytest.approx(stats.binom.sf(least - 1, count, 0.25), rel=1e-7)

    def test_z_is_the_papers(self) -> None:
        found = judge(100, 200, 0.25)
        assert found["z"] == pytest.approx((100 - 50) / (200 * 0.25 * 0.75) ** 0.5)
        assert found["marked"] and found["share"] == 0.5

    def test_a_short_text_all_green_is_judged_by_its_chance(self) -> None:
        assert judge(6, 6, 0.25)["z"] > 4 and not judge(6, 6, 0.25)["marked"]
        assert judge(8, 8, 0.25)["marked"]

    @pytest.mark.parametrize("share", [0.3, 0.4, 0.5, 0.75, 1.0])
    def test_the_length_needed_is_enough_and_about_the_least(self, share: float) -> None:
        needed = judge(round(share * 40), 40, 0.25)["needed"]
        assert judge(int(share * needed), needed, 0.25)["marked"]
        assert needed < 12 or not judge(int(share * needed * 0.8), int(needed * 0.8), 0.25)["marked"]

    def test_no_length_helps_where_nothing_is_beyond_chance(self) -> None:
        assert judge(10, 40, 0.25)["needed"] is None


class TestKeys:
    def test_a_new_key_is_random_and_its_owners_alone(self, tmp_path: Path) -> None:
        write_key(tmp_path / "one")
        write_key(tmp_path / "two")
        assert stat.S_IMODE((tmp_path / "one").stat().st_mode) == 0o600 or sys.platform == "win32"
        one, two = (read_key(tmp_path / name) for name in ("one", "two"))
        assert len(one) == len(two) == 64 and one != two
        with pytest.raises(LLMBertError, match="exists"):
            write_key(tmp_path / "one")
        assert read_key(tmp_path / "one") == one

    @pytest.mark.parametrize(
        ("content", "word"),
        [(b"", "guessed"), (b"secret\n", "guessed"), (b"a" * 64, "guessed"), (b"0123456789abcdef" * 300, "no key")],
    )
    def test_a_file_that_is_no_key_is_refused_without_its_content(
        self, content: bytes, word: str, tmp_path: Path
    ) -> None:
        (tmp_path / "key").write_bytes(content)
        with pytest.raises(LLMBertError, match=word) as refusal:
            read_key(tmp_path / "key")
        assert "llmbert watermark key" in str(refusal.value) and "secret" not in str(refusal.value)

    def test_a_file_that_cannot_be_read(self, tmp_path: Path) -> None:
        for path in (tmp_path / "missing", tmp_path):
            with pytest.raises(LLMBertError, match="cannot be read"):
                read_key(path)
        with pytest.raises(LLMBertError, match="cannot be written"):
            write_key(tmp_path / "no" / "key")


def test_documents_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of("gpt")
    run.mark(KEY)
    run_text = run.generate("a", max_tokens=400)
    marked = "".join(character for character in run_text if character.isprintable()).strip()
    path = tmp_path / "texts.txt"
    path.write_text(f"{marked}\n\nThe river rises in the hills and runs to the sea.\n", "utf-8")
    found = list(detect_in_documents([str(path)], run, KEY, lines=True))
    assert [(each["id"], each["marked"]) for each in found] == [("texts.txt:1", True), ("texts.txt:3", False)]
    alone = detect_watermark(marked, run, KEY)
    assert {name: alone[name] for name in alone if name != "tokens"} | {"id": "texts.txt:1"} == found[0]
    monkeypatch.setattr("llmbert.trust.watermark.LONGEST", 50)
    assert next(detect_in_documents([str(path)], run, KEY, lines=True))["counted"] <= 49


def test_the_verb_in_python() -> None:
    assert llmbert.detect_watermark is detect_watermark
