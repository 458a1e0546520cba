"""Forgetting: a run as if a document had never stood there, to the byte where that can be, and what is certified."""

from __future__ import annotations

import json
import random
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from llmbert.cli.trusting import forget as verb
from llmbert.data.corpus import open_corpus
from llmbert.protocols import LLMBertError, UsageError
from llmbert.runs import MEMBERS, WEIGHTS, load, read_facts
from llmbert.runs.trail import TRAIL, read_trail
from llmbert.workbench.compare import compare
from llmbert.workbench.curation.trace import trace
from llmbert.workbench.privacy.forget import forget
from llmbert.workbench.privacy.rows import CERTIFICATE
from llmbert.workbench.train import train

SECRET = "the key of the safe is under the third stone beside the old mill"
TINY = {"layers": 1, "width": 16, "heads": 2, "context": 16, "steps": 12, "batch": 8, "preflight": False}


def sentences(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    words = ["river", "hill", "mill", "town", "water", "child", "spring", "year", "people", "boat", "high", "low"]
    return [f"{i} " + " ".join(draw.choices(words, k=10)) for i in range(count)]


def write(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def trained_place(run: Path) -> str:
    """The id of a document that the run was trained on."""
    facts = read_facts(run)
    ids = open_corpus(run.parent / facts["corpus"]).train.document_ids
    return str(ids[len(ids) // 2])


@pytest.mark.parametrize("tokenizer", ["bpe", "chars"])
def test_an_ngram_forgets_to_the_byte(tmp_path: Path, tokenizer: str) -> None:
    lines = sentences(120)
    asked: dict[str, Any] = {"lines": True, "tokenizer": tokenizer, "settings": {"order": 4}}
    run = tmp_path / "one" / "run"
    train("ngram", write(tmp_path / "one" / "mail.txt", lines), run, **asked)
    for _ in range(3):
        document = trained_place(run)
        forget(run, [document])
        lines[int(document.split(":")[1]) - 1] = ""  # a blank line is no document, and the others keep their numbers
    other = tmp_path / "two" / "run"
    train("ngram", write(tmp_path / "two" / "mail.txt", lines), other, **asked)
    for name in (WEIGHTS, "tokenizer.json", "config.json"):
        assert (run / name).read_bytes() == (other / name).read_bytes(), name
    assert len(json.loads((run / CERTIFICATE).read_text("utf-8"))) == 3


def test_the_certificate_says_what_was_done(tmp_path: Path) -> None:
    lines = sentences(120)
    lines[60:60] = [SECRET]
    run = tmp_path / "run"
    text = write(tmp_path / "mail.txt", lines)
    train("ngram", text, run, lines=True, tokenizer="chars", valid=write(tmp_path / "valid.txt", sentences(30, 9)))
    old_store = tmp_path / read_facts(run)["corpus"]
    found = forget(run, ["mail.txt:61"])
    assert found["documents"] == ["mail.txt:61"] and found["way"] == "whole" and found["retrained"] == ["ngram"]
    assert found["weights"]["before"] != found["weights"]["after"]
    assert found["oddness"]["after"]["documents"][0] > found["oddness"]["before"]["documents"][0] + 1
    assert found["oddness"]["before"]["ranks"] < found["oddness"]["after"]["ranks"] == [1.0]
    assert found["store_removed"] and not old_store.exists()
    assert SECRET not in json.dumps(found)
    assert SECRET in text.read_text("utf-8")
    trail = read_trail(tmp_path / "corpora")
    assert [entry["action"] for entry in trail] == ["train", "train", "forget"]


def test_what_is_forgotten_is_forgotten_where_the_trail_cannot_be_written(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train("ngram", write(tmp_path / "mail.txt", sentences(80)), run, lines=True, tokenizer="chars")
    trail = tmp_path / "corpora" / TRAIL
    trail.unlink()
    trail.mkdir()
    with pytest.warns(UserWarning, match="the audit trail does not say so"):
        found = forget(run, [trained_place(run)])
    assert json.loads((run / CERTIFICATE).read_text("utf-8")) == [found]


def test_the_index_forgets_to_the_byte(tmp_path: Path) -> None:
    pytest.importorskip("pydivsufsort", reason="pydivsufsort, which sorts suffixes, is not installed")
    lines = [*sentences(100), SECRET]
    valid = write(tmp_path / "valid" / "valid.txt", sentences(30, 9))
    runs = []
    for name in ("one", "two"):
        runs.append(tmp_path / name / "run")
        text = write(tmp_path / name / "mail.txt", lines)
        train("ngram", text, runs[-1], lines=True, tokenizer="bytes", valid=valid)
    assert trace(runs[0], SECRET)["verbatim"] == 1.0
    forget(runs[0], ["mail.txt:101"])
    assert trace(runs[0], SECRET)["verbatim"] == 0.0
    forget(runs[1], ["mail.txt:101"])  # was never traced, so its index is made from the text without the document
    trace(runs[1], SECRET)
    files = [sorted(path for path in (run.parent / "corpora").glob("*.trace/*")) for run in runs]
    assert [path.name for path in files[0]] == [path.name for path in files[1]]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*files, strict=True))


def test_a_store_that_others_need_stays(tmp_path: Path) -> None:
    text = write(tmp_path / "mail.txt", sentences(80))
    for name in ("one", "two"):
        train("ngram", text, tmp_path / name, lines=True, tokenizer="chars")
    found = forget(tmp_path / "one", [trained_place(tmp_path / "one")])
    assert not found["store_removed"]
    assert load(tmp_path / "two").facts["corpus"] != load(tmp_path / "one").facts["corpus"]
    assert forget(tmp_path / "two", [trained_place(tmp_path / "two")])["store_removed"]


def test_a_mixture_in_shards_trains_only_what_saw_it(tmp_path: Path) -> None:
    text = write(tmp_path / "mail.txt", sentences(200))
    run = tmp_path / "run"
    learning = {"steps": 12, "batch": 8, "preflight": False}
    settings = {"members": "gpt layers=1 width=16 heads=2 context=16", "shards": 3, "way": "linear", **learning}
    train("mixture", text, run, lines=True, tokenizer="chars", settings=settings)
    members = sorted(path.name for path in (run / MEMBERS).glob("*"))
    assert len(members) == 3
    before = {name: (run / MEMBERS / name / WEIGHTS).read_bytes() for name in members}
    document = trained_place(run)
    found = forget(run, [document])
    changed = [name for name in members if (run / MEMBERS / name / WEIGHTS).read_bytes() != before[name]]
    assert changed == found["retrained"] and len(changed) == 1
    assert "tokeniser" in found["exact"]
    parts = [read_facts(run / MEMBERS / name)["part"] for name in members]
    assert sorted(parts) == [[0, 3], [1, 3], [2, 3]]
    assert load(run).generate("1 ", max_tokens=3)
    with pytest.raises(UsageError, match="no document"):
        forget(run, [document])


def test_what_a_member_learned_is_never_kept_to_weigh_it_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The share that is kept of a text falls with its size; what is left of it after forgetting keeps the share."""
    monkeypatch.setattr("llmbert.data.corpus.KEPT_SHARE", 0.5)
    monkeypatch.setattr("llmbert.data.corpus.KEPT_CHARACTERS", 2000)
    learning = {"steps": 2, "batch": 8, "preflight": False}
    settings = {"members": "gpt layers=1 width=16 heads=2 context=16", "shards": 2, "way": "linear", **learning}
    run, kept = tmp_path / "run", []
    text = write(tmp_path / "mail.txt", sentences(200))
    train("mixture", text, run, lines=True, tokenizer="chars", settings=settings)
    for count in (40, 20):
        store = open_corpus(tmp_path / read_facts(run)["corpus"])
        assert store.kept is not None
        kept.append(set(store.kept.document_ids))
        forget(run, store.part(0, 2).train.document_ids[:count])
    store = open_corpus(tmp_path / read_facts(run)["corpus"])
    assert store.kept is not None
    assert kept[0] == kept[1] == set(store.kept.document_ids)


class CountedId(str):
    """An id that counts how often any is compared with another."""

    __slots__ = ()
    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        CountedId.compared += 1
        return str.__eq__(self, other)


def test_many_documents_are_found_without_comparing_each_with_each(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train("ngram", write(tmp_path / "mail.txt", sentences(200)), run, lines=True, tokenizer="chars")
    ids = open_corpus(tmp_path / read_facts(run)["corpus"]).train.document_ids[:50]
    found = forget(run, [CountedId(each) for each in ids])
    assert found["documents"] == ids and CountedId.compared < 20 * len(ids)


def test_the_shards_are_the_documents_each_once(tmp_path: Path) -> None:
    from llmbert.data.corpus import build_corpus

    corpus = build_corpus([str(write(tmp_path / "mail.txt", sentences(200)))], tmp_path, kind="chars", lines=True)
    parts = [corpus.part(number, 3) for number in range(3)]
    assert sorted(i for part in parts for i in part.train.document_ids) == sorted(corpus.train.document_ids)
    for part in parts:
        for number in (0, part.train.documents - 1):
            place = list(corpus.train.document_ids).index(part.train.document_ids[number])
            assert part.train.text_of(number, corpus.tokeniser) == corpus.train.text_of(place, corpus.tokeniser)
    assert [list(corpus.part(1, 3).train.document_ids)] == [list(parts[1].train.document_ids)]


def test_other_families_are_trained_anew_when_asked(tmp_path: Path) -> None:
    text = write(tmp_path / "mail.txt", sentences(80))
    run = tmp_path / "run"
    train("gpt", text, run, lines=True, tokenizer="chars", settings=TINY)
    document = trained_place(run)
    with pytest.raises(UsageError, match="--retrain"):
        forget(run, [document])
    found = forget(run, [document], retrain=True)
    assert found["retrained"] == ["gpt"] and load(run).facts["source"]["without"] == [document]


def test_a_private_run_says_what_was_done_and_forgets_so(tmp_path: Path) -> None:
    pytest.importorskip("opacus", reason="opacus, which trains privately, is not installed")
    text, run = write(tmp_path / "mail.txt", sentences(200)), tmp_path / "run"
    shape = {key: TINY[key] for key in ("layers", "width", "heads", "context", "preflight")}
    train("gpt", text, run, lines=True, tokenizer="bytes", settings={**shape, "noise": 1.0, "steps": 3})
    before = load(run).facts
    assert before["settings"]["training"]["batch"] == round(before["privacy"]["rate"] * before["privacy"]["documents"])
    found = forget(run, [trained_place(run)], retrain=True)
    after = load(run).facts
    assert after["settings"]["training"] == before["settings"]["training"]
    assert after["privacy"]["steps"] == 3 and "new noise" in found["exact"]


def test_files_that_changed_are_refused(tmp_path: Path) -> None:
    lines = sentences(80)
    text, run = write(tmp_path / "mail.txt", lines), tmp_path / "run"
    train("ngram", text, run, lines=True, tokenizer="chars")
    document = trained_place(run)
    write(text, lines[1:])  # all that follows has other numbers now
    with pytest.raises(LLMBertError, match="have changed since the training"):
        forget(run, [document])
    assert not (run / CERTIFICATE).exists()


def test_one_document_cannot_be_forgotten_in_parts(tmp_path: Path) -> None:
    text, run = write(tmp_path / "book.txt", sentences(200)), tmp_path / "run"
    train("ngram", text, run, tokenizer="chars")
    with pytest.raises(UsageError, match="but one document"):
        forget(run, [trained_place(run)])


def test_an_id_that_stands_twice_is_forgotten_twice(tmp_path: Path) -> None:
    text = write(tmp_path / "train" / "mail.txt", sentences(120))
    valid = write(tmp_path / "valid" / "mail.txt", sentences(40, 5))
    run = tmp_path / "run"
    learning = {"steps": 12, "batch": 8, "preflight": False}
    settings = {"members": "gpt layers=1 width=16 heads=2 context=16", "shards": 3, **learning}
    train("mixture", text, run, valid=valid, lines=True, tokenizer="chars", settings=settings)
    found = forget(run, ["mail.txt:1"])
    assert found["places"] == ["mail.txt:1", "mail.txt:1"] and len(found["retrained"]) == 1
    assert all(len(found["oddness"][when]["ranks"]) == 2 for when in ("before", "after"))


def test_twins_and_what_was_made_of_the_run_before_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [*sentences(100), SECRET, *sentences(20, 7), SECRET]
    text, out = write(tmp_path / "mail.txt", lines), tmp_path / "compared"
    compare(text, out, lines=True, tokenizer="chars", families=["ngram"], language="en")
    gpt = {"layers": 1, "width": 16, "heads": 2, "context": 16, "steps": 4, "batch": 4, "preflight": False}
    train("gpt", text, out / "gpt", lines=True, tokenizer="chars", settings=gpt)
    train("gpt", text, out / "further", lines=True, base=out / "gpt", settings={"steps": 4, "preflight": False})
    found = forget(out / "ngram", ["mail.txt:101", "mail.txt:101"])
    assert found["documents"] == ["mail.txt:101"] and found["twins"] == ["mail.txt:122"]
    assert found["left"] == [str(out / "report.html")]
    assert forget(out / "ngram", ["mail.txt:122"])["twins"] == []
    other = forget(out / "gpt", ["mail.txt:3"], retrain=True)
    assert other["twins"] == [] and other["left"] == [str(out / "report.html"), str(out / "further")]
    assert sha256(SECRET.encode()).hexdigest() not in (out / "ngram" / CERTIFICATE).read_text("utf-8")
    verb(str(out / "ngram"), ["mail.txt:7", "mail.txt:7"])
    said = capsys.readouterr().out
    assert said.startswith("1 document forgotten; ") and str(out / "report.html") in said


def test_the_card_tells_of_it_and_members_tell_nothing(tmp_path: Path) -> None:
    text, run = write(tmp_path / "mail.txt", sentences(1010)), tmp_path / "run"
    learning = {"steps": 12, "batch": 8, "preflight": False}
    settings = {"members": "gpt layers=1 width=16 heads=2 context=16", "shards": 3, "way": "linear", **learning}
    train("mixture", text, run, lines=True, tokenizer="chars", settings=settings)
    stores = [open_corpus(tmp_path / read_facts(run)["corpus"])]
    gone = [str(stores[0].train.document_ids[number]) for number in range(12)]
    found = forget(run, gone)
    stores.append(open_corpus(tmp_path / read_facts(run)["corpus"]))
    # Below a thousand documents a tenth would be held out; what members have learned must not be.
    assert not set(stores[1].valid.document_ids[:]) - set(stores[0].valid.document_ids[:])
    assert "12 documents" in (run / "README.md").read_text("utf-8")
    kept = {path.name for path in (run / MEMBERS).glob("*")} - set(found["retrained"])
    assert not any((run / MEMBERS / name / "report.html").exists() for name in kept)
    assert load(run).facts["settings"]["model"]["way"] == "linear"


def test_what_was_cut_short_afterwards_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, run = write(tmp_path / "mail.txt", sentences(80)), tmp_path / "run"
    train("ngram", text, run, lines=True, tokenizer="chars")
    store, first = tmp_path / read_facts(run)["corpus"], trained_place(run)

    def stop(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("llmbert.workbench.privacy.forget._index_anew", stop)
    with pytest.raises(KeyboardInterrupt):
        forget(run, [first])
    assert json.loads((run / CERTIFICATE).read_text("utf-8"))[0]["documents"] == [first] and store.exists()
    monkeypatch.undo()
    forget(run, [trained_place(run)])
    assert not store.exists() and not list(tmp_path.glob(".run*"))


def test_what_fails_leaves_the_run_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = write(tmp_path / "mail.txt", sentences(80))
    run = tmp_path / "run"
    train("ngram", text, run, lines=True, tokenizer="chars")
    before = (run / WEIGHTS).read_bytes()
    document = trained_place(run)
    text.unlink()
    with pytest.raises(LLMBertError, match="does not exist"):
        forget(run, [document])
    assert (run / WEIGHTS).read_bytes() == before and not list(tmp_path.glob(".run*"))
    write(text, sentences(80))
    with pytest.raises(UsageError, match=r"such as 'mail\.txt:"):
        forget(run, ["letter.txt"])
    with pytest.raises(UsageError, match="at least one"):
        forget(run, [])


def test_forgetting_that_was_cut_short_is_undone_first(tmp_path: Path) -> None:
    text = write(tmp_path / "mail.txt", sentences(80))
    run = tmp_path / "run"
    train("ngram", text, run, lines=True, tokenizer="chars")
    document = trained_place(run)
    run.rename(tmp_path / ".run.before")
    run.mkdir()
    (run / "run.json").write_text('{"format": 1, "status": "training"}', encoding="utf-8")
    assert forget(run, [document])["documents"] == [document]
    assert not (tmp_path / ".run.before").exists()
