"""The model card: Hugging Face can read it, every figure is one that was measured, the rest is called not measured."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from llmbert.report import write_card

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
