"""A server that marks what it writes: every way of asking, nothing of the key told."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest
from live import live
from random_runs import random_run
from test_process import process

from llmbert.cli.serving import serve
from llmbert.protocols import UsageError
from llmbert.runs import Run
from llmbert.serving import catalogue, server
from llmbert.serving.catalogue import Served
from llmbert.serving.settings import ServeSettings
from llmbert.trust.watermark import detect_watermark, write_key

KEY = b"0123456789abcdefghijklmnopqrstuv"


def test_every_way_of_asking_is_marked_and_no_answer_tells_the_lists(tmp_path: Path) -> None:
    run, plain = random_run("gpt", tmp_path, "river"), random_run("lstm", tmp_path, "river")
    run.mark(KEY, strength=4.0)
    served = {"gpt": Served("gpt", run), "lstm": Served("lstm", plain)}
    with live(served, ServeSettings()) as server, server.client() as client:
        ask = {"model": "gpt", "max_tokens": 250, "seed": 1, "temperature": 1.0}
        written = client.post("/v1/completions", json={**ask, "prompt": ["a river", "a mill"]}).json()
        said = client.post("/v1/chat/completions", json={**ask, "messages": [{"role": "user", "content": "hi"}]})
        models = client.get("/v1/models")
        everything = repr(written) + said.text + models.text + client.get("/").text
    listed = {each["id"]: each["llmbert"]["watermarked"] for each in models.json()["data"]}
    texts = [choice["text"] for choice in written["choices"]]
    assert all(detect_watermark(text, run, KEY)["marked"] for text in texts)
    assert listed == {"gpt": True, "lstm": False}
    assert KEY.decode() not in everything


def test_a_client_cannot_ask_it_off(tmp_path: Path) -> None:
    run = random_run("gpt", tmp_path, "river")
    run.mark(KEY)
    with live({"gpt": Served("gpt", run)}, ServeSettings()) as server, server.client() as client:
        answer = client.post("/v1/completions", json={"model": "gpt", "prompt": "a", "watermark": False})
    assert answer.status_code == 422


def test_the_command_takes_a_key_file_and_keeps_it(folders: Path, tmp_path: Path) -> None:
    write_key(tmp_path / "key")
    secret = (tmp_path / "key").read_text().strip()
    with process(folders / "gpt", "--watermark", tmp_path / "key", "--watermark-strength", "5") as (_, url, lines):
        ask = {"model": "gpt", "prompt": "In spring", "max_tokens": 300, "temperature": 2.0, "seed": 1}
        text = httpx2.post(url + "/v1/completions", json=ask, timeout=60).json()["choices"][0]["text"]
    assert detect_watermark(text, folders / "gpt", tmp_path / "key")["marked"]
    assert secret not in "".join(lines)


def served_with_a_mark(runs: list[Run], folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Served]:
    """What `llmbert serve RUNS --watermark KEYFILE` would answer with."""
    found: list[dict[str, Served]] = []
    known = {run.folder.name: Served(run.folder.name, run) for run in runs}
    monkeypatch.setattr(catalogue, "load_runs", lambda *given: known)
    monkeypatch.setattr(server, "serve", lambda served, *rest: found.append(served))
    write_key(folder / "key")
    serve(list(known), port=0, watermark=str(folder / "key"))
    return found[0]


def test_runs_that_fill_gaps_are_served_beside_marked_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [random_run(name, tmp_path, "river") for name in ("gpt", "bert")]
    served = served_with_a_mark(runs, tmp_path, monkeypatch)
    assert {name: each.run.marked for name, each in served.items()} == {"gpt": True, "bert": False}


def test_a_key_that_would_mark_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="--watermark"):
        served_with_a_mark([random_run("bert", tmp_path, "river")], tmp_path, monkeypatch)


def test_a_run_that_fills_gaps_is_not_served_with_a_mark(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="left to right"):
        random_run("bert", tmp_path, "river").mark(KEY)
