"""From pairs to texts through the shell: train, evaluate, compare two runs, ask; and what is refused on the way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from running import Result, llmbert

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SMALL = [f"--set={pair}" for pair in ("layers=1", "width=16", "heads=2", "steps=12", "batch_tokens=256")]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two files of 200 lines that belong together: digits, and the same digits in words."""
    folder, random = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    rows = random.integers(0, 10, (200, 4))
    (folder / "digits.txt").write_text("".join(" ".join(map(str, row)) + "\n" for row in rows), "utf-8")
    (folder / "words.txt").write_text("".join(" ".join(DIGITS[i] for i in row) + "\n" for row in rows), "utf-8")
    return folder / "digits.txt", folder / "words.txt"


def train(pairs: tuple[Path, Path], out: Path, *options: str, family: str = "transformer") -> Result:
    return llmbert("train", "--family", family, "--data", *pairs, "--tokenizer=words", "--out", out, *SMALL, *options)


@pytest.fixture(scope="module")
def run(pairs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned its hundred digits."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    result = train(pairs, out, "--set=width=64", "--set=steps=250", "--set=batch_tokens=512", "--languages=zh-en")
    # A width that is set twice is refused, so this run takes its own options.
    assert result.code == 2
    options = [f"--set={pair}" for pair in ("layers=1", "width=64", "heads=2", "steps=250", "batch_tokens=512")]
    result = llmbert("train", "--family=transformer", "--data", *pairs, "--tokenizer=words", "--out", out, *options)
    assert result.code == 0, result.err
    assert "translate: bleu" in result.out
    return out


def test_a_run_of_pairs_holds_its_metrics_and_examples(run: Path) -> None:
    facts = json.loads((run / "run.json").read_text("utf-8"))
    assert facts["likelihood"] == facts["scores"]["likelihood"] == "conditional"
    assert facts["objective"] == "pairs"
    metrics = facts["metrics"]["translate"]
    assert set(metrics) == {"bleu", "chrf"}
    for score in metrics.values():
        low, high = score["interval"]
        assert low <= score["score"] <= high
        assert "version:" in score["signature"]
        assert "decoding:greedy|max-tokens:2*source+20,learned+10" in score["signature"]
        assert score["baseline"]["name"] == "copy"
    assert metrics["bleu"]["score"] > 50, "it has learned to read digits"
    assert facts["examples"][0]["references"]
    page = (run / "report.html").read_text("utf-8")
    assert facts["examples"][0]["references"][0] in page
    assert json.loads((run / "config.json").read_text("utf-8"))["model_type"] == "pegasus"


def test_evaluate_compares_what_is_written_with_references(run: Path, pairs: tuple[Path, Path]) -> None:
    scores = llmbert("evaluate", run, "--data", *pairs, "--metrics=bleu,chrf", "--json").json()
    assert scores["likelihood"] == "conditional"
    assert scores["perplexity"] < 3
    assert scores["metrics"]["translate"]["bleu"]["n"] > 100
    told = llmbert("evaluate", run, "--data", *pairs)
    assert told.code == 0
    assert "translate bleu" in told.out and "(copy: " in told.out


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_native_steps_write_as_well(kind: str, run: Path, pairs: tuple[Path, Path]) -> None:
    plain, packed = (
        llmbert("evaluate", run, "--data", *pairs, "--metrics=bleu", "--beams=3", "--json", *options).json()
        for options in ((), (f"--weights={kind}",))
    )
    scores = [each["metrics"]["translate"]["bleu"]["score"] for each in (plain, packed)]
    assert scores[1] == pytest.approx(scores[0], abs=1e-6 if kind == "float32" else 2.0)
    assert packed["perplexity"] == pytest.approx(plain["perplexity"], rel=1e-4 if kind == "float32" else 0.01)
    assert kind in packed["signature"] and kind not in plain["signature"]
    source = pairs[0].read_text("utf-8").splitlines()[0]
    texts = [llmbert("translate", run, source, *options).out for options in ((), ("--weights=float32",))]
    assert texts[0] == texts[1] != "\n"


def test_two_runs_are_told_apart(run: Path, pairs: tuple[Path, Path], tmp_path: Path) -> None:
    assert train(pairs, tmp_path / "worse").code == 0
    told = llmbert("evaluate", run, "--data", *pairs, "--metrics=chrf", "--against", tmp_path / "worse")
    assert told.code == 0, told.err
    assert f"better: {run}" in told.out


def test_a_short_context_has_no_bits_per_byte_for_the_targets_that_it_cuts(
    pairs: tuple[Path, Path], tmp_path: Path
) -> None:
    found = {}
    for context in (4, 40):
        out = tmp_path / str(context)
        assert train(pairs, out, f"--set=context={context}").code == 0
        found[context] = json.loads((out / "run.json").read_text("utf-8"))["scores"]
    assert found[40]["bits_per_byte"] > 0 and found[40]["cut"] == 0
    assert found[4]["bits_per_byte"] is found[4]["interval"]["bits_per_byte"] is None
    assert found[4]["cut"] == found[4]["documents"] and f"|cut:{found[4]['cut']}|" in found[4]["signature"]
    told = llmbert("evaluate", tmp_path / "4", "--data", *pairs)
    assert told.code == 0 and told.err.startswith("llmbert: note: ") and told.err.count("\n") == 1
    longer = [tmp_path / name for name in ("digits.txt", "words.txt")]
    for path, whole, word in zip(longer, pairs, ("1", "one " * 60), strict=True):
        path.write_text(whole.read_text("utf-8") + word + "\n", "utf-8")
    scores = llmbert("evaluate", tmp_path / "40", "--data", *longer, "--json").json()
    assert (scores["cut"], scores["bits_per_byte"]) == (1, None) and "|cut:1|" in scores["signature"]
    assert ", 1 cut" in llmbert("evaluate", tmp_path / "40", "--data", *longer).out


def test_evaluate_reads_pairs_as_they_were_read_for_training(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    spaced = tmp_path / "spaced.txt"
    spaced.write_text(pairs[1].read_text("utf-8").replace("\n", " !\n"), "utf-8")
    joined = tmp_path / "joined.txt"
    joined.write_text(pairs[1].read_text("utf-8").replace("\n", "!\n"), "utf-8")
    options = ("--detokenise=words", "--valid", str(pairs[0]), "--valid", str(spaced))
    assert train((pairs[0], spaced), tmp_path / "run", *options).code == 0
    at_training = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    again = llmbert("evaluate", tmp_path / "run", "--data", pairs[0], spaced, "--json").json()
    assert again["bytes"] == at_training["scores"]["bytes"] == len(joined.read_bytes()) - 200
    assert again["perplexity"] == pytest.approx(at_training["scores"]["perplexity"], rel=1e-4)
    other = tmp_path / "other"
    assert train((pairs[0], spaced), other).code == 0
    refused = llmbert("evaluate", tmp_path / "run", "--data", pairs[0], spaced, "--against", other)
    assert refused.code == 2 and "put together alike" in refused.err


def test_a_run_is_asked(run: Path, tmp_path: Path) -> None:
    told = llmbert("translate", run, "3 1 4 1")
    assert told.code == 0, told.err
    assert set(told.out.split()) <= set(DIGITS)
    source = tmp_path / "in.jsonl"
    source.write_text('{"source": "3 1 4 1", "id": 7}\n{"source": "5 9 2 6", "id": 8}\n', "utf-8")
    assert llmbert("translate", run, "--in", source, "--out", tmp_path / "out.jsonl").code == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert [row["id"] for row in rows] == [7, 8], "what else a record holds is kept"


@pytest.mark.parametrize("options", [["--seed=3"], ["--seed=3", "--set=accumulate=2"]])
def test_the_same_command_gives_the_same_bits(options: list[str], pairs: tuple[Path, Path], tmp_path: Path) -> None:
    logs = []
    for name in ("a", "b"):
        assert train(pairs, tmp_path / name, *options).code == 0
        lines = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text("utf-8").splitlines()]
        logs.append([(line["step"], line["loss"]) for line in lines])
    assert logs[0] == logs[1]


def test_t5_is_pre_trained_on_text_and_goes_on_with_pairs(
    prose: Path, pairs: tuple[Path, Path], tmp_path: Path
) -> None:
    options = ["--set=layers=1", "--set=width=16", "--set=heads=2", "--set=steps=8", "--set=context=32"]
    first = llmbert("train", "--family=t5", "--data", prose, "--tokenizer=bytes", "--out", tmp_path / "t5", *options)
    assert first.code == 0, first.err
    facts = json.loads((tmp_path / "t5" / "run.json").read_text("utf-8"))
    assert (facts["objective"], facts["scores"]["likelihood"]) == ("denoising", "conditional")
    assert facts["scores"]["bits_per_byte"] is None and "unit:restored" in facts["scores"]["signature"]
    assert 1 < facts["scores"]["perplexity"] < 2 * facts["tokeniser"]["vocabulary_size"]
    second = llmbert(
        "train",
        "--family=t5",
        "--base",
        tmp_path / "t5",
        "--data",
        *pairs,
        "--out",
        tmp_path / "tuned",
        "--set=steps=5",
    )
    assert second.code == 0, second.err
    facts = json.loads((tmp_path / "tuned" / "run.json").read_text("utf-8"))
    assert facts["base"] == str(tmp_path / "t5")
    assert facts["tokeniser"]["vocabulary_size"] == 360, "bytes, special tokens and a hundred sentinels"


def test_a_mixture_is_told_apart_by_prefixes(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    parts = [
        {"data": list(map(str, pairs)), "prefix": "read: ", "task": "translate zh-en"},
        {"data": list(map(str, reversed(pairs))), "prefix": "count: ", "task": "translate en-zh"},
    ]
    (tmp_path / "mixture.json").write_text(json.dumps(parts), "utf-8")
    result = llmbert(
        "train", "--family=t5", "--mixture", tmp_path / "mixture.json", "--tokenizer=words", "--out", tmp_path / "run",
        "--set=layers=1", "--set=width=16", "--set=heads=2", "--set=steps=5",
    )  # fmt: skip
    assert result.code == 0, result.err
    facts = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert facts["prefixes"] == {"translate zh-en": "read: ", "translate en-zh": "count: "}
    assert set(facts["metrics"]) == {"translate zh-en", "translate en-zh"}
    refused = llmbert("translate", tmp_path / "run", "1 2", "--to", "de")
    assert refused.code == 2, refused
    assert "translate zh-en" in refused.err


def test_bert_is_trained_and_scored(prose: Path, tmp_path: Path) -> None:
    options = ["--set=layers=1", "--set=width=16", "--set=heads=2", "--set=steps=8", "--set=context=32", "--lines"]
    result = llmbert(
        "train", "--family=bert", "--data", prose, "--tokenizer=wordpiece", "--out", tmp_path / "b", *options
    )
    assert result.code == 0, result.err
    facts = json.loads((tmp_path / "b" / "run.json").read_text("utf-8"))
    assert facts["scores"]["likelihood"] == "pseudo"
    line = json.loads((tmp_path / "b" / "log.jsonl").read_text("utf-8").splitlines()[0])
    assert {"mlm", "nsp"} <= set(line), "each term is logged"
    assert "fill" not in result.err
    scores = llmbert("evaluate", tmp_path / "b", "--data", prose, "--json").json()
    assert scores["likelihood"] == "pseudo"
    assert "unit:token|" in scores["signature"]


def test_a_gpt_learns_to_fill_in(prose: Path, tmp_path: Path) -> None:
    options = ["--set=layers=1", "--set=width=16", "--set=heads=2", "--set=steps=8", "--set=context=32"]
    result = llmbert(
        "train", "--family=gpt", "--objective=infilling", "--data", prose, "--lines", "--tokenizer=bytes",
        "--out", tmp_path / "run", *options,
    )  # fmt: skip
    assert result.code == 0, result.err
    import llmbert as package

    run = package.load(tmp_path / "run")
    assert isinstance(run.infill("The river rises", "runs to the sea.", max_tokens=8), str)


# ---- what is refused -----------------------------------------------------------------------------------------------


def refused(result: Result, code: int, *words: str) -> None:
    assert result.code == code, result
    assert result.err.startswith("llmbert: ")
    assert "unforeseen" not in result.err
    for word in words:
        assert word in result.err


def test_pairs_that_do_not_fit_together_are_refused(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("one\n" * 7, "utf-8")
    refused(train((pairs[0], short), tmp_path / "a"), 1, "digits.txt has 200 lines", "short.txt only 7")
    empty = tmp_path / "empty.txt"
    empty.write_text("x\n" * 199 + "\n", "utf-8")
    refused(train((pairs[0], empty), tmp_path / "a"), 1, "line 200", "empty target")
    refused(llmbert("train", "--family=transformer", "--data", pairs[0], "--out", tmp_path / "a"), 2, "two text files")
    assert not (tmp_path / "a").exists()


def test_what_a_family_cannot_learn_is_refused(pairs: tuple[Path, Path], prose: Path, tmp_path: Path) -> None:
    records = tmp_path / "p.jsonl"
    records.write_text('{"a": "x", "b": "y"}\n' * 30, "utf-8")
    fields = ["--fields", "source=a,target=b"]
    refused(llmbert("train", "--family=gpt", "--data", records, *fields, "--out", tmp_path / "r"), 2, "pairs")
    refused(
        llmbert("train", "--family=bert", "--objective=pairs", "--data", prose, "--out", tmp_path / "r"), 2, "masked"
    )
    refused(train(pairs, tmp_path / "r", "--task=translat"), 2, "translate")
    labels = llmbert("train", "--family=bert", "--task=classify", "--data", prose, "--out", tmp_path / "r")
    refused(labels, 2, "fine-tune --task classify")


def test_classes_are_written_out_as_text(tmp_path: Path) -> None:
    table = tmp_path / "animals.tsv"
    rows = [f"a {beast} number {i}\t{kind}" for i in range(60) for beast, kind in (("cat", "pet"), ("wolf", "wild"))]
    table.write_text("text\tkind\n" + "\n".join(rows) + "\n", "utf-8")
    result = llmbert(
        "train", "--family=t5", "--task=classify", "--data", table, "--fields", "source=text,target=kind",
        "--tokenizer=words", "--out", tmp_path / "run", "--set=layers=1", "--set=width=32", "--set=heads=2",
        "--set=steps=120",
    )  # fmt: skip
    assert result.code == 0, result.err
    facts = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    right = facts["metrics"]["classify"]["exact-match"]
    assert right["score"] == 100 and "strip+casefold" in right["signature"]
    assert right["baseline"]["name"] == "majority" and 50 <= right["baseline"]["value"] < 100
    asked = llmbert("classify", tmp_path / "run", "a wolf number 7", "--json").json()
    assert asked["answers"] == [{"label": "wild"}]
    scored = llmbert("classify", tmp_path / "run", "--in", table, "--fields", "text=text,label=kind")
    assert scored.code == 0 and "100" in scored.out + scored.err


def test_a_source_longer_than_the_context_is_counted(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    result = train(pairs, tmp_path / "run", "--set=context=4")
    assert result.code == 0, result.err
    assert "longer than the context and were cut" in result.out
