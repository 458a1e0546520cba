"""Tracing over HTTP: only for a run whose index somebody has made, and marked on the page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Live, live

import llmbert
from llmbert.serving.catalogue import load_runs
from llmbert.serving.settings import ServeSettings


@pytest.fixture(scope="module")
def traced(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server of one run with an index, and of one without."""
    copies = tmp_path_factory.mktemp("traced")
    for name in ("indexed", "bare"):
        shutil.copytree(folders / "corpora", copies / name / "corpora")
        shutil.copytree(folders / "gpt", copies / name / "gpt")
    llmbert.trace(copies / "indexed" / "gpt")
    with live(
        load_runs([f"{name}={copies / name / 'gpt'}" for name in ("indexed", "bare")]), ServeSettings()
    ) as running:
        yield running


def test_a_copied_sentence_is_found_and_another_is_not(traced: Live, folders: Path) -> None:
    prose = (folders / "text.txt").read_text().split("\n")[0]
    with traced.client() as client:
        copied, other = f"Qzx{prose[9:60]}", "nothing of this is anywhere"
        found = client.post("/v1/trace", json={"model": "indexed", "input": [copied, other]}).json()["data"]
        assert [(span["start"], span["length"]) for span in found[0]["spans"]] == [(3, 51)]
        assert found[0]["spans"][0]["documents"][0]["character"] == 9
        assert found[1]["spans"] == [] and found[1]["verbatim"] == 0
        short = client.post("/v1/trace", json={"model": "indexed", "input": prose[:6], "least": 3}).json()["data"]
        assert short[0]["verbatim"] == 1


def test_a_run_without_an_index_says_so(traced: Live) -> None:
    with traced.client() as client:
        verbs = {each["id"]: each["llmbert"]["verbs"] for each in client.get("/v1/models").json()["data"]}
        assert "trace" in verbs["indexed"] and "trace" not in verbs["bare"]
        refused = client.post("/v1/trace", json={"model": "bare", "input": "text"})
        assert refused.status_code == 422 and "cannot be asked for trace" in refused.json()["error"]["message"]
        assert client.post("/v1/trace", json={"model": "indexed", "input": "a", "least": 0}).status_code == 422
