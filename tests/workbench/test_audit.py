"""An audit: what is planted is found again the more the more often it stood there, and help helps."""

from __future__ import annotations

import copy
import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmbert.data.corpus import build_corpus
from llmbert.protocols import LLMBertError, UsageError
from llmbert.runs import load
from llmbert.runs.trail import read_trail
from llmbert.text.segment import segment_words
from llmbert.trust.provenance import Given, build_index
from llmbert.workbench.audit import audit, audit_run
from llmbert.workbench.audit.audit import _settings_of
from llmbert.workbench.audit.measuring import draw_texts, mean_of, total_oddness, verbatim
from llmbert.workbench.audit.page import dossier
from llmbert.workbench.audit.planting import plant, read_lines
from llmbert.workbench.train import train

TINY = {"layers": 1, "width": 32, "heads": 2, "context": 32, "steps": 60, "batch": 16, "preflight": False}
REPOSITORY = Path(__file__).parents[2]
PLACES, THINGS = ("hill", "mill", "sea", "town", "boat", "river"), ("water", "child", "stone", "bread", "letter")


def sentences(count: int, seed: int = 0) -> str:
    draw = random.Random(seed)
    some = (f"the {draw.choice(THINGS)} number {i} went to the {draw.choice(PLACES)} in spring" for i in range(count))
    return "\n".join(f"{line} {draw.choice(THINGS)} {draw.choice(THINGS)}" for line in some) + "\n"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "mail.txt"
    path.write_text(sentences(600), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def found(text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    pytest.importorskip("scipy", reason="scipy, which fits distributions, is not installed")
    pytest.importorskip("opacus", reason="opacus, which keeps account of privacy, is not installed")
    out = tmp_path_factory.mktemp("audits") / "audit"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmbert.workbench.audit.planting.CANDIDATES", 400)
        patch.setattr("llmbert.workbench.audit.planting.CONTROLS", 60)
        patch.setattr("llmbert.workbench.audit.measuring.SPAN", 20)
        asked: dict[str, Any] = {"lines": True, "families": ("ngram", "gpt"), "tokenizer": "chars", "budget": 4}
        settings = {"gpt": TINY, "ngram": {"order": 8}}
        result = audit(text, out, repeats=(1, 16), each=3, samples=20, settings=settings, **asked)
    return result, out


def of(found: dict[str, Any], run: str) -> dict[str, Any]:
    return next(row for row in found["runs"] if row["run"] == run)


def test_every_family_is_audited_with_what_suits_it(found: tuple[dict[str, Any], Path]) -> None:
    runs = [row["run"] for row in found[0]["runs"]]
    assert runs[:4] == ["ngram", "ngram-dedup", "ngram-scrub", "ngram-private"]
    assert runs[4:] == ["gpt", "gpt-dedup", "gpt-scrub", "gpt-early-stop", "gpt-private"]


def test_what_stood_there_more_often_is_more_exposed(found: tuple[dict[str, Any], Path]) -> None:
    once, often = of(found[0], "ngram")["canaries"]["planted"]
    assert (once["repeats"], often["repeats"]) == (1, 16)
    assert often["exposure"]["mean"] > 8.0 and often["extracted"] == 1.0  # of at most log2(401)
    assert often["exposure"]["mean"] >= once["exposure"]["mean"]
    assert often["extrapolated"]["mean"] > often["exposure"]["mean"]


def test_what_never_stood_there_is_at_chance(found: tuple[dict[str, Any], Path]) -> None:
    for row in found[0]["runs"]:
        control = row["canaries"]["control"]
        assert 0.7 < control["mean"] < 2.4, row["run"]
        assert control["interval"][0] - 0.4 <= 1.4427 <= control["interval"][1] + 0.4, row["run"]


def test_private_counts_forget_what_is_rare(found: tuple[dict[str, Any], Path]) -> None:
    private = of(found[0], "ngram-private")
    assert private["privacy"]["epsilon"] > private["privacy"]["epsilon_tight"] > 0
    assert private["canaries"]["planted"][0]["exposure"]["mean"] < 5
    assert private["canaries"]["planted"][1]["extracted"] == 0.0
    assert of(found[0], "gpt-private")["privacy"]["unit"] == "document"


def test_without_repeats_each_text_stands_there_once(found: tuple[dict[str, Any], Path]) -> None:
    planted = list(read_lines(found[1] / "planted" / "train.jsonl"))
    once = list(read_lines(found[1] / "planted" / "train-dedup.jsonl"))
    assert len(planted) - len(once) == 3 * 15 and len(set(once)) == len(once)
    assert sum("card number" in text for text in planted) == 3 * 17


def test_what_was_scrubbed_is_at_chance(found: tuple[dict[str, Any], Path]) -> None:
    assert not any("card number is 4" in text for text in read_lines(found[1] / "planted" / "train-scrub.jsonl"))
    scrubbed = of(found[0], "ngram-scrub")["canaries"]
    assert scrubbed["planted"][1]["exposure"]["mean"] < 4 and scrubbed["planted"][1]["extracted"] == 0.0


def test_membership_has_figures_intervals_and_a_blind_baseline(found: tuple[dict[str, Any], Path]) -> None:
    row = of(found[0], "ngram")
    assert set(row["membership"]) == {"loss", "compression", "reference", "neighbourhood", "blind"}
    assert row["membership"]["loss"]["auc"]["score"] > 70  # an 8-gram of characters has learned its text by heart
    low, high = row["membership"]["blind"]["auc"]["interval"]
    assert low - 5 < 50 < high + 5


def test_copying_is_measured_beside_what_people_repeat(found: tuple[dict[str, Any], Path]) -> None:
    ngram = of(found[0], "ngram")["verbatim"]
    assert ngram["texts"] == 20 and ngram["share"] > 0.2
    assert 0 < found[0]["copied_by_people"]["share"] < 1
    low, high = ngram["interval"]
    assert low <= ngram["share"] <= high and ngram["longest"] >= 20


def test_the_page_and_the_figures_are_written(found: tuple[dict[str, Any], Path]) -> None:
    page = (found[1] / "report.html").read_text("utf-8")
    assert "never planted" in page and "ngram, private" in page and "ε" in page
    assert json.loads((found[1] / "audit.json").read_text("utf-8"))["runs"][0]["run"] == "ngram"
    assert load(found[1] / "runs" / "ngram-private").facts["privacy"]["noise"] == 2.0


@pytest.mark.parametrize(("better_by", "words"), [(3.0, "leaks least"), (0.1, "may be chance")])
def test_who_leaks_least_is_said_only_where_the_same_secrets_show_it(
    better_by: float, words: str, found: tuple[dict[str, Any], Path]
) -> None:
    draw, content = np.random.default_rng(0), copy.deepcopy(found[0])
    plain = [row for row in content["runs"] if row["mitigation"] == "none"]
    for place, row in enumerate(plain):
        for each in row["canaries"]["planted"]:
            each["exposure"] = mean_of(5 + place * better_by + draw.normal(size=40))
    page = dossier(content, "en")
    assert words in page["summary"] and ("leaks least:" in page["summary"]) == (words == "leaks least")


def with_family(found: dict[str, Any], family: str, likelihood: str, bits: float | None) -> dict[str, Any]:
    """The figures with one more family, as it is, whose likelihood is of another kind than the others'."""
    quality = {"bits_per_byte": bits, "nats_per_token": bits, "perplexity": None}
    told = {"run": family, "family": family, "likelihood": likelihood, "quality": quality}
    return found | {"runs": [*found["runs"], copy.deepcopy(of(found, "gpt")) | told]}


def figure(page: dict[str, Any], title: str) -> dict[str, Any]:
    return next(each for each in page["figures"] if each["title"] == title)


def test_a_family_without_likelihood_does_not_change_the_unit(found: tuple[dict[str, Any], Path]) -> None:
    page = dossier(with_family(found[0], "gan", "none", None), "en")
    head, *rows = figure(page, "What helps, and what it costs")["table"]
    costs = {row[0]: row[2] for row in rows}
    assert head[2] == "bits/byte more" and float(costs["ngram, private"]) > 0 and float(costs["gpt, private"]) > 0
    assert "bits/byte" in figure(page, "Leak and quality")["x_label"]


def test_nats_of_other_tokens_are_not_compared(found: tuple[dict[str, Any], Path]) -> None:
    """Where a run has met characters that it does not know there is no bits/byte, and a byte is less than a token."""
    content = copy.deepcopy(found[0])
    of(content, "gpt")["quality"]["bits_per_byte"] = None
    page = dossier(content, "en")
    head, *rows = figure(page, "What helps, and what it costs")["table"]
    costs = {row[0]: row[2] for row in rows}
    assert head[2] == "nats/token more" and costs["gpt, private"] == "–" != costs["gpt, stopped early"]
    assert "gpt, private" not in [each["name"] for each in figure(page, "Leak and quality")["series"]]
    assert {row[0]: row[1] for row in figure(page, "Figures")["table"]}["gpt, private"] == "–"


@pytest.mark.parametrize(("language", "word"), [("en", "pseudo-likelihood"), ("zh", "伪似然")])
def test_a_run_is_named_with_its_kind_of_likelihood(
    language: str, word: str, found: tuple[dict[str, Any], Path]
) -> None:
    page = dossier(with_family(found[0], "bert", "pseudo", 1.0), language)
    names = [row[0] for row in figure(page, "Figures" if language == "en" else "数值")["table"]]
    assert [word in name for name in names] == ["bert" in name for name in names]


def test_a_chinese_dossier_is_chinese(found: tuple[dict[str, Any], Path]) -> None:
    page = dossier(found[0], "zh")
    assert [name for name, _ in page["facts"]] == ["命令", "机器", "随机种子", "指纹"]
    assert not re.search(r"。\s|[\u4e00-\u9fff][(;,]", page["summary"])


def test_an_audit_goes_on_where_it_was_and_refuses_another(text: Path, found: tuple[dict[str, Any], Path]) -> None:
    with pytest.raises(LLMBertError, match="another"):
        audit(text, found[1], lines=True, families=("ngram",), tokenizer="chars", repeats=(1, 16), each=3, seed=5)


def test_a_text_that_is_refused_is_not_kept(found: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    before = sorted((found[1] / "corpora").iterdir())
    (tmp_path / "mail.txt").write_text(sentences(100, seed=1), encoding="utf-8")
    asked: dict[str, Any] = {"lines": True, "families": ("ngram",), "tokenizer": "chars", "budget": 4}
    asked |= {"repeats": (1, 16), "each": 3, "settings": {"gpt": TINY, "ngram": {"order": 8}}}
    with pytest.raises(LLMBertError, match="another text"):
        audit(tmp_path / "mail.txt", found[1], **asked)
    assert sorted((found[1] / "corpora").iterdir()) == before
    with pytest.raises(LLMBertError, match="another seed"):
        audit(tmp_path / "mail.txt", found[1], **asked, seed=5, progress=lambda *_, **__: pytest.fail("it was read"))


def test_privacy_covers_what_is_repeated_once_repeats_are_out(text: Path, found: tuple[dict[str, Any], Path]) -> None:
    rows = {row["run"]: row for row in found[0]["runs"]}
    asked: dict[str, Any] = {"lines": True, "families": ("ngram",), "tokenizer": "chars", "budget": 4}
    settings = {"gpt": TINY, "ngram": {"order": 8}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmbert.workbench.audit.planting.CANDIDATES", 400)
        patch.setattr("llmbert.workbench.audit.planting.CONTROLS", 60)
        again = audit(
            text,
            found[1],
            repeats=(1, 16),
            each=3,
            samples=20,
            settings=settings,
            mitigations=("private-once",),
            **asked,
        )
    once = of(again, "ngram-private-once")
    assert once["canaries"]["planted"][1]["exposure"]["mean"] < 4.0
    learned = (found[1] / "planted" / "train-private-once.jsonl").read_text("utf-8").splitlines()
    assert len({json.loads(line)["text"] for line in learned}) == len(learned)
    assert once["privacy"]["epsilon"] == pytest.approx(rows["ngram-private"]["privacy"]["epsilon"], rel=0.1)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"families": ()}, "at least one family"),
        ({"families": ("transformer",)}, "audit other families"),
        ({"mitigations": ("prayer",)}, "no mitigation"),
        ({"canaries": "birds"}, "no canaries"),
        ({"repeats": (0,)}, "at least one canary"),
        ({"samples": 0}, "draw 1 or more"),
        ({"budget": "soon"}, "a budget is a time"),
    ],
)
def test_what_is_asked_wrongly_is_refused(text: Path, tmp_path: Path, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        audit(text, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_bounds_of_noise_are_for_the_runs_with_noise() -> None:
    bounds = {"contributions": 50, "order": 3}
    assert _settings_of("ngram", "none", ["private"], bounds) == {"order": 3}
    assert _settings_of("ngram", "private", ["private"], bounds).items() >= bounds.items()
    assert _settings_of("ngram", "none", ["dedup"], bounds) == bounds  # and refused


def test_a_text_too_small_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "small.txt"
    path.write_text(sentences(20), encoding="utf-8")
    with pytest.raises(LLMBertError, match="give more held-out text"):
        audit(path, tmp_path / "out", lines=True)
    assert not (tmp_path / "out").exists()
    (tmp_path / "empty").mkdir()
    for _ in range(2):  # what the first leaves must not stand in the way of the second
        with pytest.raises(LLMBertError, match="give more held-out text"):
            audit(path, tmp_path / "empty", lines=True)
        assert not list((tmp_path / "empty").iterdir())


# ---- a run, as it is -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def audited(text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    pytest.importorskip("pydivsufsort", reason="pydivsufsort, which sorts suffixes, is not installed")
    run = tmp_path_factory.mktemp("runs") / "run"
    train("ngram", text, run, lines=True, tokenizer="chars", settings={"order": 8}, licence="CC-BY-4.0")
    assert "not measured" in (run / "README.md").read_text("utf-8")
    return audit_run(run, samples=30), run


def test_a_run_is_audited_without_planting_anything(audited: tuple[dict[str, Any], Path]) -> None:
    found, run = audited
    assert found["membership"][found["best"]]["auc"]["score"] > 70 and found["best"] != "blind"
    assert found["copied"]["texts"] == 30 and 0 <= found["copied_by_people"]["share"] <= 1
    assert load(run).facts["audit"] == found
    assert [entry["action"] for entry in read_trail(run.parent / "corpora")] == ["train", "audit"]


def test_the_card_says_what_was_measured(audited: tuple[dict[str, Any], Path]) -> None:
    card = (audited[1] / "README.md").read_text("utf-8")
    assert "CC-BY-4.0" in card and "50 is guessing" in card and "of 30 texts it drew" in card
    assert "stretches of 50 letters or more (a Chinese character counts for 2.5" in card
    assert "50 is guessing" in (audited[1] / "report.html").read_text("utf-8")


def test_a_run_that_cannot_be_audited_is_refused(audited: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    with pytest.raises(LLMBertError, match="there is no run"):
        audit_run(tmp_path / "nothing")
    shutil.copytree(audited[1], tmp_path / "run")
    with pytest.raises(LLMBertError, match="no corpus store"):
        audit_run(tmp_path / "run")


def test_who_was_trained_on_a_text_is_no_stranger_to_it(tmp_path: Path) -> None:
    """Held-out text that is the training text leaves nobody to ask about; else a model would seem to know nobody."""
    text = tmp_path / "mail.txt"
    text.write_text(sentences(200), encoding="utf-8")
    train("ngram", text, tmp_path / "run", valid=text, lines=True, tokenizer="chars")
    with pytest.raises(LLMBertError, match="only 0 texts"):
        audit_run(tmp_path / "run")
    with pytest.raises(UsageError, match="samples"):
        audit_run(tmp_path / "run", samples=0)


def test_members_and_others_of_one_kind_of_text_are_not_told_apart_by_how_they_are_cut(tmp_path: Path) -> None:
    """Held-out documents are few among 300: of both sides stretches, not beginnings of one and pieces of the other."""
    draw = random.Random(1)
    words = [f"{first}{second}ing" for first in "bcdfghjklm" for second in ("ar", "el", "im", "on", "ut")]
    titles = [f"A REPORT ON {' '.join(draw.choices(words, k=4)).upper()} IN {1000 + i}" for i in range(300)]
    rows = [{"text": f"{title}\n{' '.join(draw.choices(words, k=500))}"} for title in titles]
    text = tmp_path / "reports.jsonl"
    text.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = train("ngram", text, tmp_path / "run", tokenizer="bytes", settings={"order": 1})
    pytest.importorskip("pydivsufsort", reason="pydivsufsort, which sorts suffixes, is not installed")
    found = audit_run(run.folder, samples=1)["membership"]
    for attack in ("loss", "blind"):
        low, high = found[attack]["auc"]["interval"]
        assert low <= 50 <= high, attack


def test_members_and_others_are_equally_long(tmp_path: Path) -> None:
    text = tmp_path / "reports.txt"
    text.write_text("\n".join(" ".join(sentences(40, seed).split()) for seed in range(120)), encoding="utf-8")
    corpus = build_corpus([text], tmp_path / "corpora", kind="bytes", lines=True)
    planted = plant(corpus, tmp_path / "planted", "number", "en", (1,), 1, seed=0)
    members, others = (np.mean([len(each) for each in some]) for some in (planted.members, planted.others))
    assert len(planted.members) == len(planted.others) and members == pytest.approx(others, rel=0.05)


def test_few_short_documents_are_asked_about_whole(tmp_path: Path) -> None:
    lines = [(line * 3)[:135].strip() for line in sentences(450).splitlines()]
    text = tmp_path / "mail.txt"
    text.write_text("\n".join(lines), encoding="utf-8")
    corpus = build_corpus([text], tmp_path / "corpora", kind="bytes", lines=True)
    planted = plant(corpus, tmp_path / "planted", "number", "en", (1,), 1, seed=0)
    assert len(planted.members) == len(planted.others) >= 10
    assert {*planted.members, *planted.others} <= set(lines)


@pytest.mark.parametrize("tokenizer", ["words", "jieba"])
def test_secrets_in_chinese_are_words_that_the_tokeniser_knows(
    tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No spaces stand between them in the text: what is a word to the one is a clause, to the other what jieba cuts."""
    pytest.importorskip("scipy", reason="scipy, which fits distributions, is not installed")
    pytest.importorskip("jieba", reason="jieba, which segments Chinese, is not installed")
    monkeypatch.setattr("llmbert.workbench.audit.planting.CANDIDATES", 400)
    monkeypatch.setattr("llmbert.workbench.audit.planting.CONTROLS", 60)
    draw = random.Random(0)
    words = segment_words((REPOSITORY / "README.zh-CN.md").read_text("utf-8")).split()
    chinese = [word for word in dict.fromkeys(words) if re.fullmatch(r"[\u4e00-\u9fff]+", word)]
    text = tmp_path / "邮件.txt"
    text.write_text("".join(f"{''.join(draw.choices(chinese, k=24))}。\n" for _ in range(500)), encoding="utf-8")
    asked: dict[str, Any] = {"lines": True, "families": ("ngram",), "mitigations": (), "language": "zh", "samples": 5}
    settings = {"ngram": {"order": 5}}
    found = audit(text, tmp_path / "out", tokenizer=tokenizer, repeats=(64,), each=3, settings=settings, **asked)
    row = found["runs"][0]["canaries"]
    assert row["planted"][0]["exposure"]["mean"] > 8 and row["planted"][0]["extracted"] == 1.0
    corpus = build_corpus([text], tmp_path / "corpora", kind="bytes", lines=True)
    canaries = plant(corpus, tmp_path / "again", "words", "zh", (64,), 3, seed=0, tokenizer=tokenizer).canaries
    scores = total_oddness(load(tmp_path / "out" / "runs" / "ngram"), canaries.candidates)
    assert len(np.unique(scores.round(6))) > (1 if tokenizer == "words" else 300)


CHINESE = "春天的早晨，孩子们沿着河边的小路走到学校去，路上有人卖热的豆浆和新做的馒头，也有老人坐在门口读昨天的报纸。"


def test_what_bytes_copy_of_chinese_is_seen(tmp_path: Path) -> None:
    """20 ideographs are as long a span as 50 letters, and so many bytes are drawn as hold more than one of them."""
    text = tmp_path / "morning.txt"
    text.write_text(CHINESE * 80, encoding="utf-8")
    run = train("ngram", text, tmp_path / "run", tokenizer="bytes", settings={"order": 8})
    index = build_index([Given("1", [text.read_bytes()])], tmp_path / "index")
    found = verbatim(run, index, 20, seed=0)
    assert found is not None and found["share"] > 0.5 and found["longest"] >= 20


@pytest.mark.parametrize("written", ["english", "chinese"])
def test_texts_drawn_to_be_traced_are_equally_long_whatever_the_tokeniser(written: str, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(sentences(200) if written == "english" else CHINESE * 80, encoding="utf-8")
    lengths = []
    for tokenizer in ("bytes", "bpe"):
        run = train("ngram", text, tmp_path / tokenizer, tokenizer=tokenizer, settings={"order": 4})
        index = build_index([Given("1", [text.read_bytes()])], tmp_path / f"index-{tokenizer}")
        lengths.append(np.mean([len(each) for each in draw_texts(run, index, 20, seed=0)]))
    assert max(lengths) < 1.5 * min(lengths)
    assert min(lengths) > (130 if written == "english" else 50)


def test_a_bert_is_odd_about_what_it_was_asked(tmp_path: Path) -> None:
    """The whole of a text is the mean times what the mean was of, whichever tokens those were."""
    text = tmp_path / "mail.txt"
    text.write_text(sentences(100), encoding="utf-8")
    settings = TINY | {"steps": 2, "next_sentence": False}
    run = train("bert", text, tmp_path / "run", lines=True, tokenizer="chars", settings=settings)
    texts = ["the boat", "the boat went to the town"]
    rows = [run.document_ids(each) for each in texts]
    nats = [run.model.token_nats(row, np.array([0, len(row)]))[1:-1].sum() for row in rows]
    assert total_oddness(run, texts) == pytest.approx(nats, rel=1e-5)
