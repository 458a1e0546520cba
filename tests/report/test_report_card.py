"""The model card: Hugging Face can read it, every figure is one that was measured, the rest is called not measured."""

from __future__ import annotations

import ast
import copy
from pathlib import Path
from typing import Any

import pytest

from llmbert.cli import app
from llmbert.report import write_card
from llmbert.report.card_tasks import PIPELINES, Purpose, loading

SOURCE = Path(__file__).resolve().parents[2] / "src"

CONTENT: dict[str, Any] = {
    "title": "wall-street",
    "summary": "Ship it.",
    "languages": ["en"],
    "table": [
        {
            **{"name": "gpt", "family": "gpt", "likelihood": "exact", "bits_per_byte": 2.0431, "interval": [2.0, 2.1]},
            **{"nats_per_token": 4.941, "perplexity": 139.9, "train_seconds": 185.0, "tokens_per_second": 25123.0},
            **{"parameters": 3912345, "bytes_on_disk": 15651234, "generate_tokens_per_second": 932.0, "note": None},
        }
    ],
    "baselines": [{"name": "xz -9", "bits_per_byte": 2.487}],
    "data": {"rows": [["documents", "42"], ["fingerprint", "5f1c"]], "overlap": "None shared."},
    "facts": [["command", "llmbert train --family gpt"], ["seed", "0"], ["signature", "bits/byte|v:1"]],
}


def card(folder: Path, content: dict[str, Any]) -> tuple[dict[str, Any], str]:
    yaml = pytest.importorskip("yaml", reason="reads the front matter")
    write_card(folder / "README.md", content)
    text = (folder / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def test_front_matter_is_hugging_faces(tmp_path: Path) -> None:
    front, _ = card(tmp_path, CONTENT)
    assert front["language"] == ["en"] and front["library_name"] == "llmbert"
    assert front["tags"] == ["llmbert", "text-generation", "gpt"]
    (model,) = front["model-index"]
    (result,) = model["results"]
    assert model["name"] == "gpt" and result["task"] == {"type": "text-generation"}
    assert result["dataset"] == {"name": "held-out text, fingerprint 5f1c", "type": "private"}
    assert {metric["type"]: metric["value"] for metric in result["metrics"]} == {
        **{"bits_per_byte": 2.0431, "nats_per_token": 4.941, "perplexity": 139.9}
    }
    assert "exact" in result["metrics"][0]["name"]


def test_the_hub_library_accepts_it(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="validates model cards")
    write_card(tmp_path / "README.md", CONTENT)
    data = hub.ModelCard.load(tmp_path / "README.md").data
    assert [result.metric_type for result in data.eval_results] == ["bits_per_byte", "nats_per_token", "perplexity"]


def test_the_body_holds_figures_data_command_and_limits(tmp_path: Path) -> None:
    _, body = card(tmp_path, CONTENT)
    for expected in (
        *("# wall-street", "2.043 (interval 2.000 to 2.100)", "3.9 M", "15.7 MB", "3 min 05 s", "25,100 tokens/s"),
        *("| fingerprint | 5f1c |", "None shared.", "xz -9 | 2.487 bits/byte", "`bits/byte|v:1`"),
        *("```sh\nllmbert train --family gpt\n```", 'llmbert.load("FOLDER")', "## Intended use", "## Limits"),
    ):
        assert expected in body


def test_nothing_is_invented(tmp_path: Path) -> None:
    front, body = card(tmp_path, {})
    assert "model-index" not in front and "language" not in front
    assert "language: not measured" in (tmp_path / "README.md").read_text(encoding="utf-8")
    figures = body.split("## Figures")[1].split("## How to reproduce")[0]
    assert figures.count("| not measured") == 8 and "Signature: `not measured`" in figures
    assert "Command: not measured" in body and "| fingerprint | not measured |" in body
    assert not [character for character in figures if character.isdigit()]


def test_a_missing_interval_is_said(tmp_path: Path) -> None:
    content = copy.deepcopy(CONTENT)
    content["table"][0]["interval"] = None
    _, body = card(tmp_path, content)
    assert "2.043 (interval not measured)" in body and "may be chance" in body


def test_a_family_without_likelihood_has_no_score(tmp_path: Path) -> None:
    content = copy.deepcopy(CONTENT)
    content["table"][0]["likelihood"] = "none"
    front, body = card(tmp_path, content)
    assert "model-index" not in front and "2.043" not in body


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    bad = 'x"\n---\n# y | z <b> `code` *a* [l](u) \x00\ud800'
    content = copy.deepcopy(CONTENT)
    content |= {"title": bad, "languages": [bad], "facts": [["command", f"a ``` {bad}"], [bad, bad]]}
    content["table"][0] |= {"name": bad, "family": bad, "note": bad}
    front, body = card(tmp_path, content)
    assert front["model-index"][0]["name"].startswith('x"\n---\n# y')
    title = next(line for line in body.splitlines() if line.startswith("# "))
    assert title.startswith('# x" --- # y \\| z &lt;b&gt; \\`code\\` \\*a\\* \\[l\\](u)')
    assert "````sh\na ``` x" in body


# ---- runs trained for a task ---------------------------------------------------------------------------------------


def metric(metric: str, value: float, **more: Any) -> dict[str, Any]:
    return {
        **{"name": "gpt", "metric": metric, "value": value, "interval": [value - 1, value + 1], "unit": ""},
        **{"higher_is_better": True, "signature": f"metric:{metric}", "baseline": {"name": "copy", "value": 4.0}},
        **more,
    }


def pairs(**more: Any) -> dict[str, Any]:
    row = CONTENT["table"][0] | {"likelihood": "conditional", "family": "transformer"}
    examples = [
        {
            "name": "gpt",
            "source": f"Source {i}.",
            "text": f"Output {i}.",
            "references": [f"Target {i}.", f"Further {i}."],
        }
        for i in range(5)
    ]
    return CONTENT | {
        **{"task": "translate", "table": [row], "metrics": [metric("bleu", 31.25), metric("rouge1", 50.0)]},
        **{"examples": examples, "examples_note": True},
        **more,
    }


@pytest.mark.parametrize(
    ("task", "pipeline", "call", "command"),
    [
        ("translate", "translation", 'run.generate(source="...")', 'llmbert translate FOLDER "..."'),
        ("translate en-de", "translation", 'source="..."', 'llmbert translate FOLDER --from en --to de "..."'),
        ("summarise", "summarization", 'run.generate(source="...")', 'llmbert summarise FOLDER "..."'),
        ("write", "text-generation", 'run.generate(source="...")', 'llmbert write FOLDER "..."'),
        ("chat", "text-generation", "talk.reply().text", "llmbert chat FOLDER"),
        ("classify", "text-classification", 'classify("FOLDER", ["..."])', 'llmbert classify FOLDER "..."'),
        ("tag", "token-classification", 'tag("FOLDER", ["..."])', 'llmbert tag FOLDER "..."'),
    ],
)
def test_each_task_has_its_type_and_its_call(tmp_path: Path, task: str, pipeline: str, call: str, command: str) -> None:
    front, body = card(tmp_path, pairs(task=task))
    assert front["tags"] == ["llmbert", pipeline, "transformer"]
    assert [result["task"]["type"] for result in front["model-index"][0]["results"]] == [pipeline]
    loading = body.split("## How to load")[1].split("## Limits")[0]
    assert call in loading and command in loading


@pytest.mark.parametrize(
    ("family", "likelihood", "pipeline", "call"),
    [
        ("gpt", "exact", "text-generation", 'run.generate("...")'),
        ("bert", "pseudo", "fill-mask", 'run.score("...")'),
        ("t5", "none", "text2text-generation", 'run.generate(source="...")'),
        ("bart", "conditional", "text2text-generation", 'run.generate(source="...")'),
    ],
)
def test_without_a_task_the_likelihood_tells(
    tmp_path: Path, family: str, likelihood: str, pipeline: str, call: str
) -> None:
    row = CONTENT["table"][0] | {"family": family, "likelihood": likelihood}
    front, body = card(tmp_path, CONTENT | {"table": [row]})
    assert front["tags"] == ["llmbert", pipeline, family] and call in body


def test_the_calls_that_a_card_names_are_there() -> None:
    verbs = {command.name for command in app.registered_commands}
    for kind in PIPELINES:
        text = loading([Purpose(kind)])
        compile(text.split("```python\n")[1].split("```")[0], kind, "exec")
        for line in text.splitlines():
            words = line.split()
            if words[:1] == ["from"]:
                source = (SOURCE / f"{words[1].replace('.', '/')}.py").read_text(encoding="utf-8")
                assert words[3] in {node.name for node in ast.parse(source).body if hasattr(node, "name")}, line
            assert words[:1] != ["llmbert"] or words[1] in verbs, line


def test_metrics_stand_in_the_model_index_beside_the_likelihood(tmp_path: Path) -> None:
    front, _ = card(tmp_path, pairs())
    (model,) = front["model-index"]
    (result,) = model["results"]
    assert [(metric["type"], metric["name"], metric["value"]) for metric in result["metrics"]][:3] == [
        ("bleu", "BLEU", 31.25),
        ("rouge", "ROUGE-1", 50.0),
        ("bits_per_byte", "bits/byte (conditional likelihood)", 2.0431),
    ]


def test_a_run_of_several_tasks_has_a_result_for_each_type(tmp_path: Path) -> None:
    rows = [metric("bleu", 20.0, name="translate en-de"), metric("rouge1", 40.0, name="summarise")]
    front, body = card(tmp_path, pairs(task=None, metrics=rows))
    (model,) = front["model-index"]
    assert model["name"] == "gpt" and front["tags"][1:3] == ["translation", "summarization"]
    assert [(r["task"]["type"], r["metrics"][0]["type"]) for r in model["results"]] == [
        ("translation", "bleu"),
        ("summarization", "rouge"),
    ]
    assert "llmbert translate FOLDER --from en --to de" in body and "llmbert summarise FOLDER" in body


def test_metrics_of_each_run_stay_with_it(tmp_path: Path) -> None:
    table = [pairs()["table"][0] | {"name": name, "bits_per_byte": None} for name in ("a", "b")]
    rows = [metric("bleu", value, name=name) for name, value in (("a", 1.5), ("b", 2.5))]
    front, body = card(tmp_path, pairs(table=table, metrics=rows))
    found = {model["name"]: model["results"][0]["metrics"][0]["value"] for model in front["model-index"]}
    assert found == {"a": 1.5, "b": 2.5} and "| BLEU · b | 2.50" in body


def test_the_hub_library_accepts_metrics(tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="validates model cards")
    write_card(tmp_path / "README.md", pairs())
    data = hub.ModelCard.load(tmp_path / "README.md").data
    assert [(each.task_type, each.metric_type) for each in data.eval_results][:2] == [
        ("translation", "bleu"),
        ("translation", "rouge"),
    ]


def test_figures_carry_interval_baseline_and_signature(tmp_path: Path) -> None:
    rows = [metric("bleu", 31.25), metric("ter", 60.0, higher_is_better=False, interval=None, baseline=None)]
    _, body = card(tmp_path, pairs(metrics=rows))
    assert "| BLEU | 31.25 (interval 30.25 to 32.25; trivial baseline, source copied: 4.00) |" in body
    assert "| TER | 60.00 (interval not measured; lower is better) |" in body
    assert "- BLEU: `metric:bleu`" in body


def test_three_examples_are_shown(tmp_path: Path) -> None:
    content = pairs()
    content["examples"][0]["source"] = "word " * 1000
    content["examples"][1]["source"] = "a ``` fence\n# no heading"
    _, body = card(tmp_path, content)
    assert body.count("### Example") == 3 and "none was picked" in body
    assert "(3,800 characters more)" in body and "````text\na ``` fence" in body
    assert "Target 2." in body and "Target 3." not in body and "Further" not in body


def test_a_classifier_is_not_called_a_writer(tmp_path: Path) -> None:
    row = {"name": "gpt", "family": "bert", "likelihood": "none", "parameters": 1234567, "train_seconds": 60.0}
    accuracy = metric("accuracy", 93.5, unit="%", baseline={"name": "majority", "value": 20.0})
    front, body = card(tmp_path, pairs(task="classify", table=[row], metrics=[accuracy], baselines=[]))
    assert front["model-index"][0]["results"][0]["metrics"] == [
        {"type": "accuracy", "name": "Accuracy (%)", "value": 93.5}
    ]
    assert "93.50 % (interval 92.50 to 94.50; trivial baseline, most frequent label: 20.00 %)" in body
    for unfit in ("writes", "writing speed", "bits/byte", "generator of text"):
        assert unfit not in body.split("## Data")[0] + body.split("## Figures")[1].split("## Examples")[0]
