"""Where a text stands: all that a search through every document finds, and nothing of what is forgotten."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmbert.protocols import LLMBertError, UsageError
from llmbert.trust.provenance import Given, TraceIndex, build_index, nearest_passages, open_index, trace_text
from llmbert.trust.provenance.pieces import cut_document, partition

letters = st.text("abé春🌊", max_size=12)
documents = st.lists(st.lists(letters, max_size=25).map("".join), max_size=8)
blocks = st.sampled_from([32, 47, 100, 1 << 20])  # with 32 bytes a document of any length is cut, with 8 of overlap


def given_of(texts: Sequence[str]) -> list[Given]:
    return [Given(f"d{number}", [text.encode()]) for number, text in enumerate(texts)]


@contextmanager
def indexed(texts: Sequence[str], block_bytes: int) -> Iterator[TraceIndex]:
    with tempfile.TemporaryDirectory() as folder:
        yield build_index(given_of(texts), Path(folder) / "index", block_bytes=block_bytes)


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def brute_force(texts: Sequence[str], text: str, least: int) -> list[tuple[int, int, set[tuple[str, int]]]]:
    """Every maximal span of `text` with all its places, by looking through all documents."""
    found, farthest = [], 0
    for start in range(len(text)):
        end = start
        while end < len(text) and any(text[start : end + 1] in other for other in texts):
            end += 1
        if end > farthest and end - start >= least:
            span = text[start:end]
            places = {
                (f"d{number}", place)
                for number, other in enumerate(texts)
                for place in range(len(other))
                if other.startswith(span, place)
            }
            found.append((start, end, places))
        farthest = max(farthest, end)
    return found


@settings(max_examples=80)
@given(texts=documents, before=letters, after=letters, block_bytes=blocks, least=st.integers(1, 6), data=st.data())
def test_all_spans_and_all_their_places_are_found(
    texts: list[str], before: str, after: str, block_bytes: int, least: int, data: st.DataObject
) -> None:
    copied = data.draw(st.sampled_from(texts)) if texts else ""
    start = data.draw(st.integers(0, len(copied)))
    text = before + copied[start : start + data.draw(st.integers(0, 200))] + after
    with indexed(texts, block_bytes) as index:
        found = trace_text(index, text, least=least, most=10_000)
    spans = [
        (s["start"], s["start"] + s["length"], {(d["id"], d["character"]) for d in s["documents"]})
        for s in found["spans"]
    ]
    assert spans == brute_force(texts, text, least)
    covered = {place for start, end, _ in spans for place in range(start, end)}
    assert found["verbatim"] == (len(covered) / len(text) if text else 0)
    for span in found["spans"]:
        assert span["count"] == len(span["documents"]), "each place is counted once, also where documents are cut"
        assert span["text"] == text[span["start"] : span["start"] + span["length"]]


def test_a_span_longer_than_the_overlap_and_than_a_block_is_found_whole(tmp_path: Path) -> None:
    draw = random.Random(0)
    long = "".join(draw.choice("abc春") for _ in range(3000))
    index = build_index([*given_of([long, long[5:900]])], tmp_path / "index", block_bytes=256)
    assert len(index.blocks) > 20 and index.overlap == 64
    found = trace_text(index, f"x{long}y")
    assert [(s["start"], s["length"], s["count"]) for s in found["spans"]] == [(1, 3000, 1)]
    found = trace_text(index, f"x{long[100:800]}y")
    places = {(each["id"], each["character"]) for each in found["spans"][0]["documents"]}
    assert found["spans"][0]["count"] == 2 and places == {("d0", 100), ("d1", 95)}


def test_no_span_crosses_from_one_document_into_the_next(tmp_path: Path) -> None:
    index = build_index(given_of(["", "the first ends here", "and here the second", ""]), tmp_path / "index")
    assert index.documents == 4 and len(index.blocks) == 1
    spans = trace_text(index, "the first ends hereand here the second", least=5)["spans"]
    assert [span["text"] for span in spans] == ["the first ends here", "and here the second"]


def test_twenty_letters_or_eight_ideographs_are_a_span_where_nothing_is_said(tmp_path: Path) -> None:
    english, chinese = "the river rises in the hills", "春江潮水连海平海上明月共潮生"
    index = build_index(given_of([english, chinese]), tmp_path / "index")
    for text, least in ((english, 20), (chinese, 8)):
        assert trace_text(index, text[:least])["spans"]
        assert not trace_text(index, text[: least - 1])["spans"]
        assert trace_text(index, text[: least - 1], least=least - 1)["spans"]
        assert not trace_text(index, text[:least], letters=30)["spans"]


def test_the_first_places_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    texts = [f"{number} the river rises in the hills" for number in range(40)]
    index = build_index(given_of(texts), tmp_path / "index", block_bytes=300)
    [span] = trace_text(index, "the river rises in the hills", most=3)["spans"]
    assert span["count"] == 40 and len(span["documents"]) == 3
    for place in span["documents"]:
        assert texts[int(place["id"][1:])][place["character"] :].startswith(span["text"])


@settings(max_examples=25)
@given(texts=st.lists(letters.map(lambda t: 5 * t), max_size=12), block_bytes=blocks, data=st.data())
def test_forgetting_is_building_without(texts: list[str], block_bytes: int, data: st.DataObject) -> None:
    gone = data.draw(st.sets(st.sampled_from(range(len(texts))))) if texts else set()
    kept = [each for number, each in enumerate(given_of(texts)) if number not in gone]
    with indexed(texts, block_bytes) as index, tempfile.TemporaryDirectory() as other:
        index = index.forget(f"d{number}" for number in gone)
        build_index(reversed(kept), Path(other) / "index", block_bytes=block_bytes)
        assert files(index.folder) == files(Path(other) / "index")
        assert sorted(index.document_ids()) == sorted(each.id for each in kept)


def test_a_hundred_documents_forgotten_leave_the_bytes_of_never_having_had_them(tmp_path: Path) -> None:
    draw = random.Random(1)
    texts = ["".join(draw.choices("abcdé春 ", k=draw.randrange(400))) for _ in range(1000)]
    texts[7] = "".join(draw.choices("ab", k=40_000))  # cut over many blocks
    index = build_index(given_of(texts), tmp_path / "index", block_bytes=4096)
    before = files(index.folder)
    gone = {7, *draw.sample(range(1000), 99)}
    index = index.forget(f"d{number}" for number in gone)
    kept = [each for number, each in enumerate(given_of(texts)) if number not in gone]
    rebuilt = build_index(kept, tmp_path / "other", block_bytes=4096)
    assert files(tmp_path / "index") == files(tmp_path / "other") != before
    assert index.facts["fingerprint"] == rebuilt.facts["fingerprint"]
    for number in sorted(gone - {7})[:8]:
        if len(texts[number]) > 40:
            spans = trace_text(index, texts[number], least=30)["spans"]
            assert not any(span["length"] == len(texts[number]) for span in spans)


def test_one_document_forgotten_touches_few_blocks(tmp_path: Path) -> None:
    texts = [f"{number} " + "word " * 20 for number in range(2000)]
    index = build_index(given_of(texts), tmp_path / "index", block_bytes=8192)
    before = set(files(index.folder))
    index = index.forget(["d12"])
    new = set(files(index.folder)) - before
    assert len(index.blocks) > 15 and len({name.split(".")[0] for name in new}) <= 1


@given(sizes=st.lists(st.integers(1, 40), max_size=60), most=st.integers(40, 200), seed=st.integers(0, 9))
def test_blocks_hold_all_pieces_in_order_and_no_more_than_fits(sizes: list[int], most: int, seed: int) -> None:
    hashes = np.unique(np.random.default_rng(seed).integers(0, 2**64, len(sizes), np.uint64))
    parts = partition(hashes, np.array(sizes[: len(hashes)], np.int64), most)
    assert [place for begin, end in parts for place in range(begin, end)] == list(range(len(hashes)))
    assert all(sum(sizes[begin:end]) <= most for begin, end in parts)


@given(text=st.text("a春🌊", max_size=300), most=st.integers(12, 60), part=st.integers(1, 50))
def test_pieces_overlap_and_are_cut_between_characters_however_the_text_comes(text: str, most: int, part: int) -> None:
    data = text.encode()
    parts = [data[place : place + part] for place in range(0, len(data), part)]
    pieces = list(cut_document(Given("d", parts), most, most // 4))
    assert b"".join(piece.text[: piece.owned] for piece in pieces) == data
    assert [piece.byte for piece in pieces] == list(np.cumsum([0, *(piece.owned for piece in pieces)])[:-1])
    for piece in pieces:
        piece.text.decode()
        assert len(piece.text) <= most and piece.text == data[piece.byte : piece.byte + len(piece.text)]
    assert all(len(piece.text) - piece.owned >= most // 4 for piece in pieces[:-1])


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["text", "suffixes", "pieces", "ids", "index.json"])
@pytest.mark.parametrize("way", ["flipped", "cut", "gone"])
def test_a_damaged_index_is_refused(ending: str, way: str, tmp_path: Path) -> None:
    build_index(given_of(["the river rises in the hills"]), tmp_path / "index")
    [file] = [file for file in (tmp_path / "index").iterdir() if file.name.endswith(ending)]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if way == "gone":
        file.unlink()
    else:
        file.write_bytes(content if way == "flipped" else content[: len(content) // 2])
    with pytest.raises(LLMBertError, match=r"index.*build it again"):
        open_index(tmp_path / "index")


def test_an_index_of_another_text_or_format_is_refused(tmp_path: Path) -> None:
    build_index(given_of(["text"]), tmp_path / "index", origin="one")
    assert open_index(tmp_path / "index", "one").documents == 1
    with pytest.raises(LLMBertError, match="another text"):
        open_index(tmp_path / "index", "two")
    head = tmp_path / "index" / "index.json"
    head.write_text(head.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(LLMBertError, match="format 99"):
        open_index(tmp_path / "index")


def test_a_refusal_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(LLMBertError, match="two documents are called d"):
        build_index([Given("d", [b"one"]), Given("d", [b"two"])], tmp_path / "index")
    with pytest.raises(LLMBertError, match="no UTF-8"):
        build_index([Given("d", [b"\xff"])], tmp_path / "index")
    with pytest.raises(UsageError, match="block_bytes"):
        build_index([], tmp_path / "index", block_bytes=1)
    assert not list(tmp_path.iterdir())
    index = build_index([Given("d", [b"one"]), Given("d", [b"one"])], tmp_path / "index")
    assert index.documents == 1, "the same document twice is one"
    before = files(tmp_path / "index")
    with pytest.raises(LLMBertError, match="no document 'e'"):
        index.forget(["e"])
    assert files(tmp_path / "index") == before
    with pytest.raises(LLMBertError, match="half a character"):
        trace_text(index, "\ud800")
    with pytest.raises(LLMBertError, match="already exists"):
        build_index([], tmp_path / "index")


def test_what_an_interrupted_forgetting_left_goes_with_the_next(tmp_path: Path) -> None:
    index = build_index(given_of(["one text", "another text"]), tmp_path / "index")
    shutil.copy(tmp_path / "index" / "index.json", tmp_path / "index" / "0123.text")
    index.forget(["d0"])
    assert files(tmp_path / "index") == files(build_index(given_of(["", "another text"])[1:], tmp_path / "o").folder)


# ---- neighbours ----------------------------------------------------------------------------------------------------


def test_a_paraphrase_finds_its_document(tmp_path: Path) -> None:
    texts = [
        "Every spring the river floods the meadows below the mill.",
        "The committee will meet on Thursday to discuss the annual budget.",
        "春江潮水连海平，海上明月共潮生。",
        "大漠孤烟直，长河落日圆。",
    ]
    index = build_index(given_of(texts), tmp_path / "index")
    for asked, wanted in (
        ("A BUDGET was discussed by the committee", 1),
        ("落日照在长河上", 3),
        ("meadows, mills, rivers", 0),
    ):
        [best] = nearest_passages(index, asked, 1)
        assert best["id"] == f"d{wanted}" and best["text"] == texts[wanted] and best["character"] == 0
    assert nearest_passages(index, "?!", 3) == []


def test_a_word_of_mixed_case_is_found_as_it_is_written(tmp_path: Path) -> None:
    index = build_index(given_of(["the bell rang", "the iPhone rang", "an IPHONE, an iPhone"]), tmp_path / "index")
    found = nearest_passages(index, "whose iPhone", 3)
    assert [each["id"] for each in found] == ["d2", "d1"]


def test_a_long_document_is_searched_in_passages(tmp_path: Path) -> None:
    filler = "nothing of note happened on this day. " * 200
    text = "é" + filler + "The comet was seen by Halley. " + filler
    index = build_index(given_of([text]), tmp_path / "index", block_bytes=3000)
    [best] = nearest_passages(index, "when did Halley see a comet", 1)
    assert "comet" in best["text"] and text[best["character"] :].startswith(best["text"])


def test_vectors_rank_the_shortlist(tmp_path: Path) -> None:
    index = build_index(given_of(["red apple apple", "green apple", "blue sky"]), tmp_path / "index")

    def represent(texts: Sequence[str]) -> np.ndarray:
        return np.array([[1.0, "green" in text or text == "apple"] for text in texts], np.float32)

    assert [each["id"] for each in nearest_passages(index, "apple", 2)] == ["d0", "d1"]
    ranked = nearest_passages(index, "apple", 2, represent)
    assert [each["id"] for each in ranked] == ["d1", "d0"] and ranked[0]["score"] == pytest.approx(1)
