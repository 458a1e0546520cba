"""Fine-tuning: labelled files to a run that labels, on a new trunk or a trained one, stopped and gone on with."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import ENGLISH

from llmbert.data.labelled import Examples, encode_examples
from llmbert.models.headed import Headed, HeadSettings
from llmbert.protocols import LLMBertError, UsageError
from llmbert.runs import load, read_tensors
from llmbert.tasks.classify import classify
from llmbert.training.loop import Interrupted
from llmbert.training.settings import TrainingSettings
from llmbert.workbench.fine_tune import cross_validate, fine_tune, fine_tune_tasks, resume_fine_tune
from llmbert.workbench.labelled import learn
from llmbert.workbench.labelled.folds import _together
from llmbert.workbench.labelled.page import _baselines
from llmbert.workbench.labelled.scores import score_head
from llmbert.workbench.train import train

TINY = {"layers": 1, "width": 16, "heads": 2, "batch": 8, "learning_rate": 0.01, "dropout": 0.0}
COLOURS = ("red", "green", "blue")
THINGS = ("hill", "mill", "sea", "town", "boat", "child")


def write(path: Path, records: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return str(path)


def coloured(count: int, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        colour, thing = draw.choice(COLOURS), draw.choice(THINGS)
        found.append(
            {"text": f"the {colour} {thing} {draw.choice(THINGS)}", "label": colour, "grade": 10 * len(colour)}
        )
    return found


def named(count: int, seed: int) -> list[dict[str, Any]]:
    """Chinese, character by character, in BMES: a place behind 在, a person before 说."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        place, person = draw.choice(["北京", "上海", "呼和浩特"]), draw.choice(["张三", "李四", "王"])
        text = f"{person}说在{place}有江"
        tags = [*marked("PER", len(person)), "O", "O", *marked("LOC", len(place)), "O", "O"]
        found.append({"tokens": list(text), "tags": tags})
    return found


def marked(kind: str, size: int) -> list[str]:
    return [f"S-{kind}"] if size == 1 else [f"B-{kind}", *[f"M-{kind}"] * (size - 2), f"E-{kind}"]


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("colours")
    return write(folder / "train.jsonl", coloured(80, 0)), write(folder / "valid.jsonl", coloured(40, 1))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT that was taught a few steps of English."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "text.txt").write_text((ENGLISH + " ") * 30, encoding="utf-8")
    shape = {"layers": 2, "width": 16, "heads": 2, "context": 32, "steps": 4, "batch": 4, "vocabulary_size": 120}
    train("bert", folder / "text.txt", folder / "run", tokenizer="wordpiece", settings=shape)
    return folder / "run"


def test_a_new_trunk_learns_classes_and_is_kept_with_all_that_is_known_of_it(
    colours: tuple[str, str], tmp_path: Path
) -> None:
    run = fine_tune("classify", colours[0], tmp_path / "run", valid=colours[1], settings=TINY | {"epochs": 12})
    facts = run.facts
    assert facts["scores"]["accuracy"]["score"] > 95
    assert facts["scores"]["accuracy"]["interval"][0] <= facts["scores"]["accuracy"]["score"]
    assert facts["heads"]["classify"]["labels"] == sorted(COLOURS)
    assert facts["data"]["classify"]["train"] == 80 and sum(facts["data"]["classify"]["labels"].values()) == 80
    assert (facts["status"], facts["family"], facts["likelihood"]) == ("done", "headed", "none")
    assert facts["settings"]["training"]["steps"] == 120 and facts["settings"]["training"]["warmup"] == 12
    files = {file.name for file in (tmp_path / "run").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "run.json", "log.jsonl"} <= files
    assert {"report.html", "report.json", "README.md"} <= files
    assert "checkpoint.safetensors" not in files
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    errors = [line["valid"] for line in log if "valid" in line]
    assert min(errors) == pytest.approx(100 - facts["scores"]["accuracy"]["score"], abs=1e-6)  # the best were kept


def test_the_run_opens_in_transformers(colours: tuple[str, str], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    settings = TINY | {"steps": 5, "pooling": "first"}
    run = fine_tune("classify", colours[0], tmp_path / "run", valid=colours[1], settings=settings)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").eval()
    ids = torch.tensor([[2, *run.tokeniser.encode("the red hill sea").tolist(), 3]])
    with torch.inference_mode():
        ours = run.model("classify", ids, torch.ones_like(ids, dtype=torch.bool))
        torch.testing.assert_close(theirs(ids).logits, ours, rtol=1e-4, atol=1e-5)
    assert theirs.config.id2label == dict(enumerate(sorted(COLOURS)))


@pytest.mark.parametrize("family", ["bert", "gpt", "lstm"])
def test_tags_of_chinese_characters(family: str, tmp_path: Path) -> None:
    data, valid = write(tmp_path / "a.jsonl", named(60, 0)), write(tmp_path / "b.jsonl", named(30, 1))
    settings = {key: value for key, value in TINY.items() if family != "lstm" or key != "heads"}
    run = fine_tune("tag", data, tmp_path / "run", valid=valid, family=family, settings=settings | {"epochs": 15})
    # A GPT cannot know that a name goes on, but 呼 begins the only place that has four characters.
    assert run.facts["scores"]["span-f1"]["score"] > (95 if family == "bert" else 50)
    assert run.facts["words"] == "characters"
    assert run.facts["tokeniser"]["kind"] == "chars"
    assert len(run.facts["heads"]["tag"]["labels"]) == 9
    assert run.facts["trunk"] == family


def test_on_a_base_its_weights_and_tokeniser_are_begun_with(
    base: Path, colours: tuple[str, str], tmp_path: Path
) -> None:
    settings = {"freeze": "trunk.*", "steps": 6, "learning_rate": 0.01}
    run = fine_tune("classify", colours[0], tmp_path / "run", base=base, valid=colours[1], settings=settings)
    known, own = load(base), run.model.trunk.state_dict()
    assert run.tokeniser.fingerprint == known.tokeniser.fingerprint
    assert run.facts["base"] == str(base) and run.facts["trained_parameters"] < run.facts["parameters"] / 4
    assert own and all(torch.equal(weight, known.model.state_dict()[name]) for name, weight in own.items())
    with pytest.raises(UsageError, match="shape is that of"):
        fine_tune("classify", colours[0], tmp_path / "b", base=base, settings={"layers": 3})
    with pytest.raises(UsageError, match="leave out size and tokenizer"):
        fine_tune("classify", colours[0], tmp_path / "b", base=base, tokenizer="words")
    again = fine_tune("classify", colours[0], tmp_path / "c", base=tmp_path / "run", settings={"steps": 1})
    assert again.facts["steps"] == 1  # also on the trunk of another fine-tuning


def test_a_base_from_elsewhere_brings_its_tokeniser_and_pooler(colours: tuple[str, str], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", *COLOURS, *THINGS, "##s"]
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "vocab.txt").write_text("\n".join(words) + "\n")
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=24, max_position_embeddings=32, **shape)  # rounded up: 24 > len(words)
    theirs = transformers.BertModel(config)
    theirs.save_pretrained(tmp_path / "theirs")
    options: dict[str, Any] = {"base": tmp_path / "theirs", "valid": colours[1]}
    options["settings"] = {"epochs": 8, "learning_rate": 0.01, "batch": 8}
    run = fine_tune("classify", colours[0], tmp_path / "run", **options)
    assert run.facts["scores"]["accuracy"]["score"] > 50
    assert run.facts["tokeniser"]["kind"] == "foreign"
    assert run.model.settings.heads["classify"].pooling == "first"
    assert run.model.vocabulary_size == 24
    texts = ["the red hill", "The BLUE hills"]
    opened = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "run").eval()
    tokenizer = transformers.BertTokenizer(str(tmp_path / "theirs" / "vocab.txt"))
    with torch.inference_mode():
        shares = opened(**tokenizer(texts, return_tensors="pt", padding=True)).logits.softmax(-1)
    for found, row in zip(classify(tmp_path / "run", texts), shares.tolist(), strict=True):
        assert list(found["probabilities"].values()) == pytest.approx(row, abs=1e-4)
    with pytest.raises(Interrupted):
        fine_tune("classify", colours[0], tmp_path / "part", stop=stopped_after(9), **options)
    assert torch.equal(weights(resume_fine_tune(tmp_path / "part")), weights(run))


def test_lora_is_merged_and_has_moved_its_targets_alone(base: Path, colours: tuple[str, str], tmp_path: Path) -> None:
    settings = {"lora_rank": 2, "lora_targets": "*.qkv", "steps": 10, "learning_rate": 0.01}
    run = fine_tune("classify", colours[0], tmp_path / "run", base=base, valid=colours[1], settings=settings)
    known, own = load(base).model.state_dict(), run.model.trunk.state_dict()
    assert {name for name, weight in own.items() if not torch.equal(weight, known[name])} == {
        f"blocks.{i}.attention.qkv.weight" for i in range(2)
    }
    assert not any("lora" in name for name in read_tensors(tmp_path / "run" / "model.safetensors"))


def words_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"tokens": row["text"].split(), "tags": ["DT", "JJ", "NN", "NN"]} for row in rows]


def told_by_words(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"text": row["text"], "label": sorted({row["label"], *({"sea"} & set(row["text"].split()))})} for row in rows
    ]


PAIRS = [{"text": f"{a} boat", "text_b": f"a boat of {a}"} for a in ("red", "green", "blue", "grey", "old", "new")]
ALIKE = [
    {"text": f"a {a} sea", "text_b": f"the {b} town", "label": 5.0 if a == b else 1.0} for a in COLOURS for b in COLOURS
]
KINDS: dict[str, tuple[str, list[dict[str, Any]], list[dict[str, Any]], str, float]] = {
    "several classes": ("multilabel", told_by_words(coloured(80, 2)), told_by_words(coloured(30, 3)), "micro-f1", 90),
    "numbers": ("regress", coloured(80, 2), coloured(30, 3), "spearman", 90),
    "parts of speech": ("tag", words_of(coloured(40, 2)), words_of(coloured(20, 3)), "accuracy", 99),
    "pairs": ("embed", PAIRS * 5, PAIRS, "found", 99),
    "likeness": ("embed", ALIKE * 5, ALIKE, "spearman", 70),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_other_tasks_are_learned_too(kind: str, tmp_path: Path) -> None:
    task, rows, held_out, score, least = KINDS[kind]
    data, valid = write(tmp_path / "a.jsonl", rows), write(tmp_path / "b.jsonl", held_out)
    settings = TINY | {"steps": 120, "evaluate_every": 40}
    fields = {"label": "grade"} if task == "regress" else None
    run = fine_tune(task, data, tmp_path / "run", valid=valid, fields=fields, settings=settings)
    assert run.facts["scores"][score]["score"] > least
    assert run.facts["scores"][score]["n"] == len(held_out)


@pytest.mark.parametrize(
    ("task", "labels", "given", "expected"),
    [
        ("classify", ["a", "a", "a", "b"], ["a", "b", "b", "b"], {"accuracy": 25.0, "macro-f1": 20.0}),
        ("multilabel", [["a"], ["b", "a"], ["a", "b"]], [["a", "b"], ["a"]], {"micro-f1": 600 / 7, "exact": 50.0}),
        ("tag", [["O", "B-x", "B-x", "B-x"]], [["O", "B-x"]], {"span-f1": 0.0, "span-f1-macro": 0.0}),
        ("tag", [["noun", "noun", "verb"]], [["noun", "verb", "verb", "verb"]], {"accuracy": 25.0}),
        ("embed", None, [None] * 4, {"found": 25.0}),
    ],
)
def test_what_costs_nothing_stands_beside_every_score(
    task: str, labels: list[Any] | None, given: list[Any], expected: dict[str, float]
) -> None:
    train, valid = (
        Examples(task, [""] * len(some or given), None, some) for some in (labels, None if labels is None else given)
    )
    known = sorted(train.counts())
    settings: Any = SimpleNamespace(task=task, labels=tuple(known))
    assert {name: each["value"] for name, each in _baselines(settings, train, valid, "en").items()} == pytest.approx(
        expected
    )


def test_the_page_tells_scores_mistakes_and_what_costs_nothing(colours: tuple[str, str], tmp_path: Path) -> None:
    rows = [json.loads(line) for line in Path(colours[1]).read_text("utf-8").splitlines()]
    rows[0]["label"] = "blue" if rows[0]["label"] == "red" else "red"  # nobody can get this right
    valid = write(tmp_path / "valid.jsonl", rows)
    run = fine_tune("classify", colours[0], tmp_path / "run", valid=valid, language="zh", settings=TINY | {"steps": 90})
    content = json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))
    accuracy = next(row for row in content["metrics"] if row["metric"] == "accuracy")
    assert accuracy["value"] == run.facts["scores"]["accuracy"]["score"] > accuracy["baseline"]["value"] > 20
    assert rows[0]["text"] in [example["source"] for example in content["examples"]]
    counts = torch.tensor(content["classes"][0]["counts"])
    assert int(counts.sum()) == len(rows)
    assert 100 * int(counts.diagonal().sum()) / len(rows) == pytest.approx(accuracy["value"])
    assert "留出样例" in content["summary"]
    assert rows[0]["text"] in (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "text-classification" in (tmp_path / "run" / "README.md").read_text("utf-8")


def test_several_tasks_on_one_trunk(colours: tuple[str, str], tmp_path: Path) -> None:
    tasks = {
        "colour": {"task": "classify", "data": colours[0], "valid": colours[1]},
        "size": {"task": "regress", "data": colours[0], "valid": colours[1], "fields": {"label": "grade"}},
        "words": {"task": "tag", "data": write(tmp_path / "t.jsonl", words_of(coloured(40, 3)))},
        "sense": {"task": "embed", "data": write(tmp_path / "e.jsonl", PAIRS * 4)},
    }
    settings = TINY | {"steps": 200, "mix": 1e6, "evaluate_every": 100, "learning_rate": 0.02}
    run = fine_tune_tasks(tasks, tmp_path / "run", settings=settings)
    heads = run.facts["heads"]
    assert isinstance(run.model, Headed) and list(run.model.settings.heads) == list(tasks)
    assert heads["colour"]["scores"]["accuracy"]["score"] > 90
    assert heads["size"]["scores"]["spearman"]["score"] > 80
    assert heads["words"]["scores"]["accuracy"]["score"] > 90
    assert "scores" not in run.facts
    assert load(tmp_path / "run").model.settings == run.model.settings


def stopped_after(steps: int) -> Callable[[], bool]:
    asked = iter(range(1, 10_000))
    return lambda: next(asked) >= steps


def weights(run: Any) -> torch.Tensor:
    return torch.cat([w.detach().flatten() for w in run.model.parameters()])


@pytest.mark.parametrize("on_base", [False, True])
def test_stopped_and_resumed_is_never_stopped(
    on_base: bool, base: Path, colours: tuple[str, str], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"epochs": 3, "dropout": 0.2, "batch": 8, "learning_rate": 0.01}
    settings |= {"lora_rank": 2, "layer_decay": 0.8} if on_base else {"layers": 1, "width": 16, "heads": 2}
    options: dict[str, Any] = {"valid": colours[1], "settings": settings, "base": base if on_base else None}
    whole = fine_tune("classify", colours[0], tmp_path / "whole", **options)
    with pytest.raises(Interrupted, match="--resume"):
        fine_tune("classify", colours[0], tmp_path / "part", stop=stopped_after(13), **options)
    with pytest.raises(LLMBertError, match="not finished"):
        load(tmp_path / "part")
    before = json.loads((tmp_path / "part" / "run.json").read_text("utf-8"))["elapsed_seconds"]
    part = resume_fine_tune(tmp_path / "part")
    assert part.facts["total_seconds"] > before > 0 and "elapsed_seconds" not in part.facts
    assert torch.equal(weights(whole), weights(part))
    assert part.facts["scores"] == whole.facts["scores"]
    with pytest.raises(LLMBertError, match="no fine-tuning that was stopped"):
        resume_fine_tune(tmp_path / "part")


def test_what_was_killed_before_its_first_checkpoint_begins_on_its_base_again(
    base: Path, colours: tuple[str, str], tmp_path: Path
) -> None:
    settings = {"freeze": "trunk.*", "steps": 4, "learning_rate": 0.01}
    with pytest.raises(Interrupted):
        fine_tune("classify", colours[0], tmp_path / "run", base=base, settings=settings, stop=stopped_after(1))
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    run = resume_fine_tune(tmp_path / "run")
    known, own = load(base).model.state_dict(), run.model.trunk.state_dict()
    assert own and all(torch.equal(weight, known[name]) for name, weight in own.items())


def test_other_examples_are_not_gone_on_with(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", coloured(60, 0))
    with pytest.raises(Interrupted):
        fine_tune("classify", data, tmp_path / "run", settings=TINY | {"steps": 9}, stop=stopped_after(4))
    write(tmp_path / "a.jsonl", coloured(60, 5))
    with pytest.raises(LLMBertError, match="not those it was learning from"):
        resume_fine_tune(tmp_path / "run")


def test_without_held_out_examples_a_tenth_is_held_out(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", [*coloured(80, 0), *[{"text": " ", "label": "red"}] * 3])
    run = fine_tune("classify", data, tmp_path / "run", lowercase=True, settings=TINY | {"steps": 3})
    found = run.facts["data"]["classify"]
    assert found["train"] + found["valid"] == 80 and 1 <= found["valid"] <= 20
    rows = json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))["data"]["rows"]
    assert [value for name, value in rows if "blank" in name] == ["3"], "of the one file, not of both sides"
    assert run.facts["text"] == {"lowercase": True}


def test_a_budget_decides_how_often_examples_are_read(colours: tuple[str, str], tmp_path: Path) -> None:
    run = fine_tune("classify", colours[0], tmp_path / "run", valid=colours[1], budget="4s", settings=TINY)
    assert 10 <= run.facts["steps"] <= 1000  # never more than a hundred readings
    assert run.facts["budget"] == "4s"


def test_a_finished_run_stays_where_its_trail_cannot_be_written(colours: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "corpora" / "trail.jsonl").mkdir(parents=True)
    with pytest.warns(UserWarning, match="audit trail"):
        fine_tune("classify", colours[0], tmp_path / "run", settings=TINY | {"steps": 1})
    assert load(tmp_path / "run").facts["status"] == "done"


@pytest.mark.parametrize(
    ("a_step", "a_measure", "seconds", "every"),
    [(0.1, 1.0, 60.0, None), (0.1, 30.0, 200.0, None), (2.0, 1.0, 20.0, None), (0.1, 1.0, 60.0, 7)],
)
def test_a_budget_pays_for_steps_and_for_every_time_held_out_examples_are_scored(
    a_step: float, a_measure: float, seconds: float, every: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learn, "_measure_speed", lambda course, patience: (a_step, a_measure))
    course: Any = SimpleNamespace(
        training=TrainingSettings(evaluate_every=every),
        asked=SimpleNamespace(values={}),
        batches=lambda: SimpleNamespace(batches_per_epoch=20),
        epochs=1.0,
        warmup=0.1,
    )
    found = learn.plan_steps(course, seconds)
    scored = -(-found.steps // (found.evaluate_every or 1)) + 1
    taken = found.steps * a_step + scored * a_measure
    assert found.steps >= 1 and taken <= seconds - 3.0
    assert taken > 0.5 * seconds or scored == 2, "and it is spent"
    with pytest.warns(UserWarning, match="no time to learn"):
        assert learn.plan_steps(course, a_measure).steps == 1


def test_what_is_asked_wrongly_leaves_nothing_behind(colours: tuple[str, str], tmp_path: Path) -> None:
    wrong: list[tuple[type[LLMBertError], str, dict[str, Any]]] = [
        (UsageError, "no task 'sort'", {"task": "sort"}),
        (UsageError, "did you mean 'epochs'", {"settings": {"epoch": 3}}),
        (UsageError, "epochs", {"settings": {"epochs": 0}}),
        (UsageError, "adds no noise", {"settings": TINY | {"noise": 1.0}}),
        (UsageError, "no use of free_bits", {"settings": TINY | {"free_bits": 0.5}}),
        (UsageError, "seed must be at most", {"seed": 2**64}),
        (UsageError, "no size 'huge'", {"size": "huge"}),
        (UsageError, "tokeniser 'letters'", {"tokenizer": "letters"}),
        (UsageError, "lora_targets", {"settings": TINY | {"lora_rank": 2, "lora_targets": "*.query"}}),
        (UsageError, "nothing to learn", {"settings": TINY | {"freeze": "*"}}),
        (
            UsageError,
            "two or more of them",
            {"task": "embed", "data": write(tmp_path / "e.jsonl", PAIRS * 4), "settings": TINY | {"batch": 1}},
        ),
        (LLMBertError, "no field 'topic'", {"fields": {"label": "topic"}}),
        (LLMBertError, "ngram", {"family": "ngram"}),
        (
            LLMBertError,
            "has the label 'pink', which no training",
            {"valid": write(tmp_path / "p.jsonl", [{"text": "a", "label": "pink"}])},
        ),
    ]
    for kind, sentence, options in wrong:
        task, data = options.pop("task", "classify"), options.pop("data", colours[0])
        with pytest.raises(kind, match=sentence):
            fine_tune(task, data, tmp_path / "run", **options)
        assert not (tmp_path / "run").exists(), sentence
    fine_tune("classify", colours[0], tmp_path / "run", settings=TINY | {"steps": 1})
    with pytest.raises(LLMBertError, match="already holds a run"):
        fine_tune("classify", colours[0], tmp_path / "run", settings=TINY | {"steps": 1})


def test_cross_validation_predicts_each_example_once_and_can_be_gone_on_with(tmp_path: Path) -> None:
    data = write(tmp_path / "a.jsonl", [*coloured(60, 0), {"text": "the odd hill", "label": "odd", "grade": 0}])
    options: dict[str, Any] = {"folds": 3, "settings": TINY | {"epochs": 10}, "out": tmp_path / "folds.json"}
    found = cross_validate("classify", data, **options)
    assert found["scores"]["accuracy"]["n"] == found["examples"] == 61
    assert found["scores"]["accuracy"]["score"] > 85
    assert len(found["folds"]) == 3 and all(fold["steps"] > 40 for fold in found["folds"])
    whole = json.loads((tmp_path / "folds.json").read_text())
    assert [len(fold["predicted"]) for fold in whole["done"]] == [21, 20, 20]
    (tmp_path / "folds.json").write_text(json.dumps(whole | {"done": whole["done"][:1]}))
    again = cross_validate("classify", data, **options)
    assert again["scores"] == found["scores"]
    with pytest.raises(LLMBertError, match="another cross-validation"):
        cross_validate("classify", data, **options | {"seed": 1})


def test_cross_validation_on_a_lower_cased_base_lower_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write(tmp_path / "a.jsonl", [row | {"text": row["text"].title()} for row in coloured(40, 0)])
    fine_tune("classify", data, tmp_path / "base", lowercase=True, settings=TINY | {"steps": 1})
    encoded: list[str] = []

    def spy(examples: Examples, *asked: Any, **options: Any) -> Any:
        encoded.extend(examples.texts)
        return encode_examples(examples, *asked, **options)

    monkeypatch.setattr("llmbert.workbench.labelled.course.encode_examples", spy)
    cross_validate("classify", data, folds=2, base=tmp_path / "base", settings={"steps": 1})
    assert len(encoded) == 80 and all(text == text.lower() for text in encoded)


def test_vectors_of_different_models_are_not_ranked_against_each_other() -> None:
    """Three models, each of which gives all texts one vector of its own: its pairs are found by chance."""
    sizes, draw = (4, 4, 5), np.random.default_rng(0)
    vectors = [np.tile(draw.normal(size=8), (size, 2, 1)).tolist() for size in sizes]
    pairs = [Examples("embed", ["a"] * size, [f"b{i}" for i in range(size)], None) for size in sizes]
    found = _together(HeadSettings(task="embed"), pairs, vectors)["found"]
    assert found["score"] == pytest.approx(100 * 3 / 13) and found["n"] == 13 and "among:4-5" in found["signature"]


def test_a_second_text_that_stands_there_twice_is_found_either_way() -> None:
    vectors = np.array([[[1.0, 0.0]] * 2, [[1.0, 0.0]] * 2, [[0.0, 1.0]] * 2])
    twice = Examples("embed", ["a", "b", "c"], ["same", "same", "other"], None)
    assert score_head(HeadSettings(task="embed"), vectors, twice)["found"]["score"] == 100
