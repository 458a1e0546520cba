"""ARPA files: what is written reads back the same, other tools agree, and foreign or broken files are understood."""

from __future__ import annotations

import gzip
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmbert.models.ngram import NGram, NGramSettings
from llmbert.models.ngram.arpa import read_arpa, write_arpa
from llmbert.models.ngram.arpa_names import token_name, token_names, token_text
from llmbert.protocols import LLMBertError

DATA = Path(__file__).parents[3] / "shared" / "data"
UNKNOWN, BEGIN, END = 1, 2, 3
SPECIAL = ["<|padding token|>", "<|unknown token|>", "<|begin of text|>", "<|end of text|>"]


def pack(documents: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Documents in the form a corpus has: begin, tokens, end, one after another, and where each begins."""
    framed = [[BEGIN, *document, END] for document in documents]
    ids = np.array([token for document in framed for token in document], np.int64)
    return ids, np.cumsum([0, *map(len, framed)])


def small_model(order: int = 4, smoothing: str = "kneser-ney", words: int = 30) -> NGram:
    random = np.random.default_rng(0)
    documents = [(4 + np.minimum(random.zipf(1.4, 9), words - 5)).tolist() for _ in range(200)]
    return NGram.fit(*pack(documents), words, NGramSettings(order=order, smoothing=smoothing))


def words_for(model: NGram) -> list[str]:
    return SPECIAL + [f"word{i}" for i in range(4, model.vocabulary_size)]


def texts(vocabulary_size: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Documents of words both likely and not, the unknown one among them."""
    random = np.random.default_rng(seed)
    return pack([np.where((x := random.integers(3, vocabulary_size, 8)) == 3, 1, x).tolist() for _ in range(30)])


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "foreign.arpa"
    path.write_text(text, encoding="utf-8")
    return path


def log10_of(model: NGram, tokens: list[str], sentence: str) -> list[float]:
    """The decimal logarithms of a sentence's words and its end."""
    ids = [tokens.index(word) if word in tokens else UNKNOWN for word in sentence.split()]
    return (-model.token_nats(*pack([ids]))[1:] / math.log(10)).tolist()


# --- Written and read again ---


@pytest.mark.parametrize("smoothing", ["kneser-ney", "ml"])
@pytest.mark.parametrize("order", [1, 2, 5])
@pytest.mark.parametrize("name", ["model.arpa", "model.arpa.gz"])
def test_a_model_written_and_read_gives_the_same_probabilities(order, smoothing, name, tmp_path):
    model = small_model(order, smoothing)
    tokens = words_for(model)
    write_arpa(model, tokens, tmp_path / name)
    for known in (None, tokens):
        again, names = read_arpa(tmp_path / name, known)
        assert names == tokens
        contexts = [[], [BEGIN], [BEGIN, 4], [4, 5, 6, 4], [29, 28], [UNKNOWN, 4]]
        assert again.next_distribution(contexts) == pytest.approx(model.next_distribution(contexts), abs=1e-5)
        ids, starts = texts(model.vocabulary_size)
        assert again.token_nats(ids, starts) == pytest.approx(model.token_nats(ids, starts), abs=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_model_from_an_arpa_file_is_saved_and_loaded_like_any_other(tmp_path):
    write_arpa(small_model(), words_for(small_model()), tmp_path / "model.arpa")
    model, _ = read_arpa(tmp_path / "model.arpa")
    loaded = NGram.from_tensors(model.tensors(), model.config())
    ids = torch.from_numpy(texts(30)[0])[None]
    assert torch.equal(loaded.logits(ids), model.logits(ids))


def test_the_same_model_always_gives_the_same_bytes(tmp_path):
    model = small_model()
    for name in ("a.arpa.gz", "b.arpa.gz"):
        write_arpa(model, words_for(model), tmp_path / name)
    assert (tmp_path / "a.arpa.gz").read_bytes() == (tmp_path / "b.arpa.gz").read_bytes()


AWKWARD = [
    "<unk>", "<s>", "</s>", "<UNK>", "", " ", "  ", "\n", "\t", "\r", "\x0b", "\x0c", "\0", "\x85", "\u00a0", "\u3000",
    "\u2028", "two words", "\\", "\\u0020", "\\empty", "\\#7", "a\\#7", "same", "same", "same", "\ud83d", "龙",
    "x" * 300, "\\data\\", "\\end\\", "\\2-grams:", "-1.5", "ngram", "😀",
]  # fmt: skip


def test_tokens_of_any_text_survive(tmp_path):
    tokens = SPECIAL + AWKWARD
    everyone = [list(range(4, len(tokens))), list(range(len(tokens) - 1, 3, -1))]
    model = NGram.fit(*pack(everyone), len(tokens), NGramSettings(order=3))
    write_arpa(model, tokens, tmp_path / "model.arpa")
    for known in (None, tokens):
        again, names = read_arpa(tmp_path / "model.arpa", known)
        assert names == tokens
        assert again.token_nats(*pack(everyone)) == pytest.approx(model.token_nats(*pack(everyone)), abs=1e-5)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(codec=None), max_size=8), max_size=8))
@example(AWKWARD)
def test_names_are_distinct_hold_no_space_and_give_their_texts_back(tokens):
    names = token_names(tokens, {})
    assert [token_text(name) for name in names] == tokens
    assert len(set(names)) == len(names)
    assert not {"<s>", "</s>", "<unk>", ""} & set(names)
    assert all(name.encode().split() == [name.encode()] and name.split() == [name] for name in names)


@given(st.text("\\u#0123456789abcdefempty ", max_size=12))
def test_a_text_that_looks_like_a_mark_is_not_taken_for_one(text):
    assert token_text(token_name(text)) == text


def test_ordinary_names_are_left_as_they_are():
    ordinary = ["the", "N", "naïve", "<b>", "C:\\dir", "中"]
    assert token_names(ordinary, {}) == ordinary


def test_what_has_no_arpa_form_is_refused_and_nothing_is_left(tmp_path):
    model = small_model()
    with pytest.raises(LLMBertError, match="never backs off"):
        write_arpa(small_model(smoothing="additive"), words_for(model), tmp_path / "model.arpa")
    with pytest.raises(LLMBertError, match="do not name"):
        write_arpa(model, words_for(model)[1:], tmp_path / "model.arpa")
    with pytest.raises(LLMBertError, match="cannot write"):
        write_arpa(model, words_for(model), tmp_path / "nowhere" / "model.arpa")
    assert not list(tmp_path.iterdir())


def test_writing_cut_short_leaves_the_old_file_whole(tmp_path):
    def interrupt(stage, done, total=None, **figures):
        raise KeyboardInterrupt

    model = small_model()
    (tmp_path / "model.arpa").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_arpa(model, words_for(model), tmp_path / "model.arpa", interrupt)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


# --- Foreign files ---

FOREIGN = """a comment before the header

\\data\\
ngram 1=5
ngram 2=3
ngram 3=2

\\1-grams:
-1.0 </s>
-99 <s>  -0.5
-0.7\tb\t-0.2
-0.6 a -0.3
-2.0 <unk>

\\2-grams:
-0.4 a b -0.1
-0.3 <s> a
-0.5\tb a\t-0.25

\\3-grams:
-0.2 b a b
-0.1 <s> a </s>

\\end\\
"""


def test_spaces_tabs_missing_weights_and_any_order_are_understood(tmp_path):
    model, tokens = read_arpa(written(tmp_path, FOREIGN))
    assert tokens == [*SPECIAL, "b", "a"]
    assert model.order == 3
    assert log10_of(model, tokens, "a") == pytest.approx([-0.3, -0.1], abs=1e-6)
    # b after <s>: -0.5 - 0.7; a after (<s>, b), of which only "b a" is there; b after (b, a); </s> after (a, b).
    assert log10_of(model, tokens, "b a b") == pytest.approx([-1.2, -0.5, -0.2, -0.1 - 0.2 - 1.0], abs=1e-6)
    assert log10_of(model, tokens, "zebra a") == pytest.approx([-2.5, -0.6, -0.3 - 1.0], abs=1e-6)


def test_windows_line_ends_and_blank_lines_are_understood(tmp_path):
    path = tmp_path / "foreign.arpa"
    path.write_bytes(FOREIGN.replace("-0.5\tb a", "\n-0.5\tb a").replace("\n", "\r\n").encode())
    model, tokens = read_arpa(path)
    assert log10_of(model, tokens, "a") == pytest.approx([-0.3, -0.1], abs=1e-6)


def test_an_ngram_whose_beginning_or_end_is_missing_counts_all_the_same(tmp_path):
    text = FOREIGN.replace("-0.2 b a b", "-0.2 a a b").replace("-0.1 <s> a </s>", "-0.1 a b </s>")
    model, tokens = read_arpa(written(tmp_path, text))
    # "a a" and "b </s>" are not in the file: p(a|a) = backoff(a) p(a), and backing off from "a a" costs nothing.
    assert log10_of(model, tokens, "a a b") == pytest.approx([-0.3, -0.3 - 0.6, -0.2, -0.1], abs=1e-6)
    assert log10_of(model, tokens, "a a a") == pytest.approx([-0.3, -0.9, -0.9, -0.3 - 1.0], abs=1e-6)


def test_every_missing_beginning_of_a_long_ngram_is_inferred(tmp_path):
    text = FOREIGN.replace("ngram 3=2", "ngram 3=0\nngram 4=1\nngram 5=1")
    text = text[: text.index("\\3-grams")] + "\\3-grams:\n\n\\4-grams:\n-0.3 b b b a\n\n"
    text += "\\5-grams:\n-0.2 b b b a b\n\\end\\\n"
    model, tokens = read_arpa(written(tmp_path, text))
    assert model.counts() == [4, 4, 1, 1, 1]
    b, a = -0.2 - 0.7, -0.2 - 0.7
    assert log10_of(model, tokens, "b b b a b") == pytest.approx([-1.2, b, a, -0.3, -0.2, -0.1 - 0.2 - 1.0], abs=1e-6)


def test_tokens_that_the_file_lacks_share_the_unknown_tokens_probability(tmp_path):
    tokens = [*SPECIAL, "a", "x", "b", "y", "z"]
    model, names = read_arpa(written(tmp_path, FOREIGN), tokens)
    assert names == tokens
    unigrams = model.next_distribution([[]])[0]
    assert unigrams[[1, 5, 7, 8]] == pytest.approx([0.01 / 4] * 4)
    assert unigrams[4] == pytest.approx(10**-0.6)


def test_names_by_other_tools_may_hold_what_we_would_escape(tmp_path):
    text = FOREIGN.replace("b", "b\\u0041").replace(" a", " a\u3000c")
    tokens = [*SPECIAL, "b\\u0041", "a\u3000c"]
    model, _ = read_arpa(written(tmp_path, text), tokens)
    assert model.next_distribution([[]])[0, 4] == pytest.approx(10**-0.7)


BROKEN = {
    "not an ARPA file": ("\\data\\\n", "", 23, "not an ARPA file"),
    "header out of step": ("ngram 2=3", "ngram 3=3", 5, "ngram 2="),
    "header without a number": ("ngram 2=3", "ngram 2=many", 5, "ngram 2="),
    "header without counts": ("ngram 1=5\nngram 2=3\nngram 3=2\n", "", 5, "no n-grams"),
    "count too low": ("ngram 2=3", "ngram 2=2", 15, "announces 2 2-grams, but the section has 3"),
    "count too high": ("ngram 2=3", "ngram 2=99999999999", 15, "announces 99999999999"),
    "sections swapped": ("\\2-grams:", "\\3-grams:", 15, "\\2-grams:"),
    "word missing": ("-0.4 a b -0.1", "-0.4 a", 16, "2 words"),
    "word too many": ("-0.4 a b -0.1", "-0.4 a b a -0.1", 16, "2 words"),
    "no number": ("-0.3 <s> a", "oops <s> a", 17, "'oops'"),
    "not a number": ("-0.3 <s> a", "nan <s> a", 17, "'nan'"),
    "infinite weight": ("-0.4 a b -0.1", "-0.4 a b inf", 16, "'inf'"),
    "weight not a number": ("-0.4 a b -0.1", "-0.4 a b x", 16, "'x'"),
    "probability above one": ("-0.3 <s> a", "0.3 <s> a", 17, "greater than 0"),
    "word unknown": ("-0.3 <s> a", "-0.3 <s> c", 17, "'c'"),
    "listed twice": ("-0.3 <s> a", "-0.3 a b", 17, "line 16"),
    "unigram listed twice": ("-2.0 <unk>", "-2.0 a", 13, "line 12"),
    "end missing": ("\\end\\\n", "", 23, "\\end\\"),
    "cut short": ("\\3-grams:\n-0.2 b a b\n-0.1 <s> a </s>\n\n\\end\\\n", "", 19, "\\3-grams:"),
}


@pytest.mark.parametrize(("old", "new", "line", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_malformed_file_is_refused_with_the_number_of_the_line(old, new, line, message, tmp_path):
    assert FOREIGN.count(old) == 1
    with pytest.raises(LLMBertError) as refused:
        read_arpa(written(tmp_path, FOREIGN.replace(old, new)))
    assert f"foreign.arpa, line {line}: " in str(refused.value)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(LLMBertError, match="cannot read"):
        read_arpa(tmp_path / "nothing.arpa")
    whole = gzip.compress(FOREIGN.encode())
    for name, content in {"cut.gz": whole[:-20], "damaged.gz": whole[:30] + b"\0" * 30 + whole[60:]}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(LLMBertError, match="damaged"):
            read_arpa(tmp_path / name)
    (tmp_path / "latin.arpa").write_bytes(FOREIGN.replace("a -0.3", "é -0.3").encode("latin-1"))
    with pytest.raises(LLMBertError, match=r"line 12: .*UTF-8"):
        read_arpa(tmp_path / "latin.arpa")
    with pytest.raises(LLMBertError, match="'a' is not among the tokens given"):
        read_arpa(written(tmp_path, FOREIGN), [*SPECIAL, "b"])


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(FOREIGN) - 1), st.integers(0, 40), st.binary(max_size=6))
def test_no_damage_to_a_file_does_more_than_refuse_it(tmp_path_factory, at, removed, inserted):
    path = tmp_path_factory.getbasetemp() / "damaged.arpa"
    path.write_bytes(FOREIGN.encode()[:at] + inserted + FOREIGN.encode()[at + removed :])
    try:
        model, tokens = read_arpa(path)
    except LLMBertError as refused:
        assert "\n" not in str(refused)
    else:
        assert model.next_distribution([[BEGIN], [4] * 5]).shape == (2, len(tokens))


# --- KenLM ---


@cache
def _text(name: str) -> tuple[list[list[str]], list[list[str]]]:
    if not (DATA / name).is_dir():
        pytest.skip(f"the data set {name} is not on this machine")
    parts = []
    for part in ("train", "valid"):
        with gzip.open(DATA / name / f"{part}.txt.gz", "rt", encoding="utf-8") as file:
            lines = file.read().split("\n")
        parts.append([units for line in lines if (units := line.split() if name == "ptb" else list(line))])
    return parts[0], parts[1]


@pytest.mark.parametrize(("name", "order"), [("ptb", 4), ("tinyshakespeare", 6)])
def test_kenlm_gives_every_token_the_same_probability(name, order, tmp_path):
    kenlm = pytest.importorskip("kenlm")
    train, valid = _text(name)
    # Half of the Treebank's training text leaves more words unknown.
    train = train[: 20_000 if name == "ptb" else None]
    ids: dict[str, int] = {}
    for line in train:
        for unit in line:
            ids.setdefault(unit, len(ids) + 4)
    tokens = SPECIAL + list(ids)
    encode = [pack([[ids.get(unit, UNKNOWN) for unit in line] for line in part]) for part in (train, valid[:400])]
    model = NGram.fit(*encode[0], len(tokens), NGramSettings(order=order))
    write_arpa(model, tokens, tmp_path / "model.arpa")
    other = kenlm.Model(str(tmp_path / "model.arpa"))
    mine = -model.token_nats(*encode[1]) / math.log(10)
    for line, start in zip(valid[:400], encode[1][1].tolist(), strict=False):
        # In the Treebank `<unk>` is an ordinary word, which we write under another name.
        sentence = " ".join(token_name(unit) for unit in line)
        theirs = [score for score, _, _ in other.full_scores(sentence)]
        assert mine[start + 1 : start + 2 + len(line)] == pytest.approx(theirs, abs=1e-4)
