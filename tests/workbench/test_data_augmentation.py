"""llmbert data augment: files in, JSONL out; labels, tags and other fields stay; what is wrong is one sentence."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import llmbert
from llmbert.data.labelled import read_examples
from llmbert.models import FAMILIES
from llmbert.protocols import LLMBertError, UsageError
from llmbert.runs import Run
from llmbert.text.tokenisers import train_tokeniser
from llmbert.workbench.curation import augmentation
from llmbert.workbench.curation.augmentation import augment_data, nearest_words

ROWS = [
    {"id": 1, "text": "a good film for the whole family", "label": "yes"},
    {"id": 2, "text": "the story is slow and the end is weak", "label": "no"},
    {"id": 3, "text": "  ", "label": "no"},
]
TAGGED = {"tokens": ["Ann", "Lee", "went", "to", "Rome", "today"], "tags": ["B-P", "I-P", "O", "O", "B-L", "O"]}
LEXICON = "good\tfine\tgreat\nslow\tlengthy\nweak\tpoor\nwent\twalked\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "rows.tsv").write_text("label\ttext\nyes\ta good film\nno\ta weak one\n")
    (tmp_path / "tags.jsonl").write_text(json.dumps(TAGGED) + "\n")
    (tmp_path / "lines.txt").write_text("the first line of it\n\nthe second line of it\n")
    (tmp_path / "lexicon.tsv").write_text(LEXICON)
    return tmp_path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def augment(folder: Path, name: str, **asked: Any) -> tuple[dict[str, int], list[dict[str, Any]]]:
    chosen = {"lexicon": folder / "lexicon.tsv", "overwrite": True, **asked}
    found = augment_data([str(folder / name)], folder / "new.jsonl", **chosen)
    return found, read(folder / "new.jsonl")


def test_records_keep_their_label_and_all_else(folder: Path) -> None:
    found, new = augment(folder, "rows.jsonl", copies=5, fields={"text": "text", "label": "label"}, strength=0.2)
    assert found["read"] == 2 and found["blank"] == 1 and found["written"] == len(new) >= 6
    for row in new:
        own = ROWS[row["id"] - 1]
        assert row["label"] == own["label"] and row["text"] != own["text"] and row["augmented_way"] == "eda"
        assert row["augmented_from"] == f"rows.jsonl:{row['id']}"
    assert len({row["text"] for row in new}) == len(new)
    examples = read_examples([str(folder / "new.jsonl")], "classify")  # what fine-tune reads
    assert examples.labels == [row["label"] for row in new]


def test_a_field_of_its_own_stays_whatever_its_name(folder: Path) -> None:
    own = {"from": "ann@example.org", "way": "by post", "id": 7}
    (folder / "mail.jsonl").write_text(json.dumps(own | {"text": "we meet by the old mill"}) + "\n")
    _, new = augment(folder, "mail.jsonl", ways=["swap"])
    assert [{key: row[key] for key in own} for row in new] == [own] and new[0]["augmented_from"] == "mail.jsonl:1"


def test_the_same_seed_the_same_file_and_another_another(folder: Path) -> None:
    texts = []
    for seed in (0, 0, 1):
        augment(folder, "rows.jsonl", copies=3, seed=seed)
        texts.append((folder / "new.jsonl").read_bytes())
    assert texts[0] == texts[1] != texts[2]


def test_each_copy_takes_the_next_way(folder: Path) -> None:
    _, new = augment(folder, "rows.jsonl", copies=2, ways=["swap", "crop", "noise"])
    assert [row["augmented_way"] for row in new] == ["swap", "crop", "noise", "swap"]


def test_tables_and_lines(folder: Path) -> None:
    _, new = augment(folder, "rows.tsv", ways=["synonym"], fields={"text": "text", "label": "label"})
    assert [(row["label"], row["augmented_from"]) for row in new] == [("yes", "rows.tsv:2"), ("no", "rows.tsv:3")]
    assert new[1]["text"] == "a poor one"
    found, new = augment(folder, "lines.txt", ways=["swap"], lines=True)
    assert found["read"] == 2 and [row["augmented_from"] for row in new] == ["lines.txt:1", "lines.txt:3"]
    found, new = augment(folder, "lines.txt", ways=["swap"])
    assert found["read"] == 1 and new[0]["augmented_from"] == "lines.txt"


def test_dates_and_half_characters_of_other_fields_are_written(folder: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = {"text": ["a good film"], "day": [datetime.date(2024, 5, 1)]}
    parquet.write_table(arrow.table(table), folder / "d.parquet")
    assert augment(folder, "d.parquet")[1][0]["day"] == "2024-05-01"
    (folder / "half.jsonl").write_text(json.dumps({"text": "a good film", "title": "half \ud83d"}) + "\n")
    assert augment(folder, "half.jsonl")[1][0]["title"] == "half \ud83d"


def test_tags_stay_with_their_words(folder: Path) -> None:
    found, new = augment(
        folder, "tags.jsonl", ways=["eda", "order", "noise", "mask"], copies=12, fields={"tokens": "tokens"}
    )
    assert found["written"] == len(new) > 6
    own = dict(zip(TAGGED["tokens"], TAGGED["tags"], strict=True))
    for row in new:
        pairs = list(zip(row["tokens"], row["tags"], strict=True))
        assert all(own[token] == tag for token, tag in pairs if token in own)
        if "Ann" in row["tokens"] and "Lee" in row["tokens"]:
            assert row["tokens"].index("Lee") == row["tokens"].index("Ann") + 1


def test_copies_that_are_none_are_counted(folder: Path) -> None:
    found, new = augment(folder, "lines.txt", ways=["synonym"], lines=True, copies=3)
    assert (found["same"], new) == (6, [])
    found, new = augment(folder, "rows.tsv", ways=["synonym"], copies=20, fields={"label": "label"})
    assert found["twice"] == 37 and len(new) == 3  # fine, great; poor


def test_a_long_text_is_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "LONGEST", 25)
    (folder / "more.jsonl").write_text((folder / "rows.jsonl").read_text() + '{"text": "a good one"}\n')
    found, _ = augment(folder, "more.jsonl")
    assert (found["read"], found["long"]) == (1, 2)


def test_back_translation_takes_two_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def translated(run: Any, texts: list[str], **settings: Any) -> list[str]:
        asked.append((run, len(texts), settings.get("seed")))
        return [f"{text} {run.family}" for text in texts]

    monkeypatch.setattr(augmentation, "translate", translated)
    runs = {name: Run(Path(name), None, None, {"family": name}) for name in ("ende", "deen")}
    ways = {"ways": ["back-translation", "swap"], "copies": 2, "seed": 3}
    _, new = augment(folder, "rows.jsonl", **ways, forth=runs["ende"], back=runs["deen"])
    assert [row["text"] for row in new if row["augmented_way"] == "back-translation"] == [
        f"{row['text']} ende deen" for row in ROWS[:2]
    ]
    assert [(run.family, count) for run, count, _ in asked] == [("ende", 2), ("deen", 2)]


def test_nearest_words_are_those_of_the_embeddings() -> None:
    words = [f"word{chr(97 + at // 26)}{chr(97 + at % 26)}" for at in range(150)]
    tokeniser = train_tokeniser("words", [" ".join(words)])
    kind = FAMILIES["lstm"]
    model = kind.build(kind.settings_class()(layers=1, width=8), tokeniser.vocabulary_size)
    table = next(m for m in model.modules() if isinstance(m, torch.nn.Embedding)).weight
    one, near, far = (int(tokeniser.encode(word)[0]) for word in words[:3])
    with torch.no_grad():
        table.normal_()
        table[near] = 2 * table[one]
        table[far] = -table[one]
    find = nearest_words(Run(Path("lstm"), model, tokeniser, {"family": "lstm"}), count=3)
    assert find(words[0])[0] == words[1] and words[2] not in find(words[0]) and words[0] not in find(words[0])
    assert len(find(words[0])) <= 3 and find("unheard") == ()
    with pytest.raises(UsageError, match="no embeddings"):
        nearest_words(Run(Path("ngram"), None, tokeniser, {"family": "ngram"}))


WRONG: dict[str, tuple[str, dict[str, Any], type[Exception], str]] = {
    "way": ("rows.jsonl", {"ways": ["syn"]}, UsageError, "no way 'syn'"),
    "none": ("rows.jsonl", {"ways": []}, UsageError, "no way to augment"),
    "no synonyms": ("rows.jsonl", {"lexicon": None}, UsageError, "--lexicon FILE or --neighbours RUN"),
    "copies": ("rows.jsonl", {"copies": 0}, UsageError, "copies"),
    "seed": ("rows.jsonl", {"seed": -1}, UsageError, "seed"),
    "strength": ("rows.jsonl", {"strength": 2.0}, UsageError, "strength"),
    "one run": ("rows.jsonl", {"ways": ["back-translation"]}, UsageError, "two runs"),
    "roles": ("rows.jsonl", {"fields": {"text": "text", "tags": "tags"}}, UsageError, "one of the two"),
    "field": ("rows.jsonl", {"fields": {"label": "class"}}, LLMBertError, "rows.jsonl, line 1 has no field 'class'"),
    "text": ("tags.jsonl", {}, LLMBertError, "holds no text in field 'text'"),
    "label of lines": ("lines.txt", {"fields": {"label": "label"}}, LLMBertError, "holds no fields"),
    "missing": ("no.txt", {}, LLMBertError, "does not exist"),
    "lexicon": ("rows.jsonl", {"lexicon": "missing.tsv"}, LLMBertError, "missing.tsv cannot be read"),
    "there": ("rows.jsonl", {"overwrite": False}, LLMBertError, "is there already"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_asked_wrongly_leaves_the_old_file(case: str, folder: Path) -> None:
    name, asked, kind, words = WRONG[case]
    (folder / "new.jsonl").write_text("old")
    with pytest.raises(kind, match=words.replace("(", r"\(")):
        augment(folder, name, **asked)
    assert (folder / "new.jsonl").read_text() == "old" and not list(folder.glob("*.partial"))


def test_a_torn_file_leaves_nothing(folder: Path) -> None:
    (folder / "rows.jsonl").write_text('{"text": "a b c d"}\n{"text": oh}\n')
    with pytest.raises(LLMBertError, match=r"rows\.jsonl, line 2"):
        augment_data([str(folder / "rows.jsonl")], folder / "out.jsonl", ways=["swap"])
    assert not (folder / "out.jsonl").exists() and not list(folder.glob("*.partial"))


def test_the_verb_in_python() -> None:
    assert llmbert.augment_data is augment_data
