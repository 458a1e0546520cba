"""The verb in a process of its own: started, killed, drained; and runs from strangers."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
import sqlite3
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

import llmbert
from llmbert.cli.serving import report, serve
from llmbert.protocols import LLMBertError
from llmbert.serving.catalogue import load_runs
from llmbert.serving.feedback import Answer, Feedback, read_thumbs, read_times
from llmbert.serving.feedback_report import feedback_report, write_feedback_page, write_pairs

PROGRAM = [sys.executable, "-m", "llmbert"]


@contextmanager
def process(*arguments: str | Path) -> Iterator[tuple[subprocess.Popen[str], str, list[str]]]:
    """`llmbert serve ARGUMENTS --port 0`, once it answers: the process, its address and its stderr so far."""
    command = [*PROGRAM, "serve", *map(str, arguments), "--port", "0"]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert started.stderr is not None
    lines: list[str] = []
    threading.Thread(target=lambda: lines.extend(started.stderr), daemon=True).start()  # type: ignore[arg-type]
    try:
        deadline = time.monotonic() + 60
        while not (found := [line for line in lines if line.startswith("http://")]):
            assert started.poll() is None and time.monotonic() < deadline, "".join(lines)
            time.sleep(0.02)
        url = found[0].split()[0].rstrip("/")
        while time.monotonic() < deadline:
            try:
                if httpx2.get(url + "/readyz").status_code == 200:
                    break
            except httpx2.TransportError:
                time.sleep(0.02)
        yield started, url, lines
    finally:
        started.kill()
        started.wait(10)


def ask(url: str, **changes: Any) -> Any:
    asked = {"model": "ngram", "prompt": "the river", "max_tokens": 6, **changes}
    return httpx2.post(url + "/v1/completions", json=asked, timeout=30).json()


def test_killed_in_the_middle_of_requests_the_database_is_whole(folders: Path, tmp_path: Path) -> None:
    path = tmp_path / "feedback.sqlite"
    rated: list[str] = []
    with process(folders / "ngram", "--feedback", path) as (started, url, _):

        def rate() -> None:
            try:
                while True:
                    answer = ask(url)["id"]
                    httpx2.post(url + "/v1/feedback", json={"id": answer, "good": len(rated) % 3 > 0, "note": "fine"})
                    rated.append(answer)
            except (httpx2.TransportError, KeyError, ValueError):
                pass

        askers = [threading.Thread(target=rate) for _ in range(4)]
        for asker in askers:
            asker.start()
        while len(rated) < 40:
            time.sleep(0.01)
        started.send_signal(signal.SIGKILL)
        started.wait(10)
        for asker in askers:
            asker.join(20)
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    kept = {row["id"] for row in read_thumbs(path)}
    assert len(kept) >= len(rated) - 16 and len(read_times(path)) >= len(kept)
    with process(folders / "ngram", "--feedback", path) as (_, url, _):
        answer = ask(url)["id"]
        assert httpx2.post(url + "/v1/feedback", json={"id": answer, "good": True}).status_code == 200
        assert httpx2.post(url + "/v1/feedback", json={"id": rated[0], "good": True}).status_code == 404
    found = feedback_report(path)
    assert found["answers"] > len(kept) and 0.4 < found["thumbs"]["share_up"] < 0.9
    assert found["thumbs"]["interval"][0] < found["thumbs"]["share_up"] < found["thumbs"]["interval"][1]
    assert found["seconds"]["p50"] <= found["seconds"]["p95"] <= found["seconds"]["p99"] <= found["seconds"]["longest"]
    assert all(each["prompt"] == "the river" for each in found["worst"]) and len(found["worst"]) == min(
        10, found["thumbs"]["down"]
    )
    pairs = write_pairs(path, tmp_path / "pairs.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]
    assert len(lines) == pairs == found["thumbs"]["up"] and lines[0]["source"] == "the river"
    for language in ("en", "zh"):
        write_feedback_page(path, found, tmp_path / f"{language}.html", language)
        assert f"{found['answers']:,}" in (tmp_path / f"{language}.html").read_text()


def test_what_people_wrote_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        feedback = Feedback(tmp_path / "feedback.sqlite")
        feedback.answered(Answer("a", 1.0, "gpt", "completion", "secret", "text", {}, 0.1, None, 3))
        feedback.rate("a", True, "", None, 2.0)
        feedback.flush()
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
        assert len(list(tmp_path.iterdir())) == 3  # with what SQLite has beside it
        feedback.close()
    finally:
        os.umask(before)


def test_sigterm_finishes_what_is_under_way_and_ctrl_c_too(folders: Path) -> None:
    for how in (signal.SIGTERM, signal.SIGINT):
        with process(folders / "gpt") as (started, url, lines):
            with httpx2.stream(
                "POST",
                url + "/v1/completions",
                json={"model": "gpt", "prompt": "the", "max_tokens": 300, "stream": True, "seed": 4},
            ) as response:
                events = response.iter_lines()
                next(events)
                started.send_signal(how)
                assert list(events)[-2] == "data: [DONE]"
            started.wait(20)
        assert any('"message": "stopped"' in line for line in lines)
        assert not any("Traceback" in line for line in lines)


def test_pairs_of_feedback_are_what_train_reads(folders: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"source": f"the river {i}", "target": f"der fluss {i}", "text": f"a {i}", "run": "x"} for i in range(40)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = llmbert.train(
        "ngram", pairs, tmp_path / "run", fields={"text": "text"}, tokenizer="bytes", settings={"order": 2}
    )
    assert run.facts["data"]["train"]["documents"] > 30


class TestTheCommandLine:
    """The verbs as the shell calls them; an error there is its sentence, and the exit code it carries."""

    @pytest.mark.parametrize(
        ("runs", "options", "code", "said"),
        [
            (["nowhere"], {}, 1, "nowhere"),
            (["gpt"], {"host": "0.0.0.0"}, 2, "reached from other machines"),
            (["gpt"], {"keys": "none"}, 1, "cannot be read"),
            (["gpt"], {"batch": 0}, 2, "batch must be at least 1"),
            (["gpt", "gpt=ngram"], {}, 2, "two runs are called gpt"),
            (["gpt"], {"feedback": "."}, 1, "database of feedback"),
            (["../=gpt"], {}, 2, "cannot be the name of a run"),
        ],
    )
    def test_what_is_refused(
        self,
        folders: Path,
        monkeypatch: pytest.MonkeyPatch,
        runs: list[str],
        options: dict[str, Any],
        code: int,
        said: str,
    ) -> None:
        monkeypatch.chdir(folders)
        with pytest.raises(LLMBertError, match=said) as refusal:
            serve(runs, port=0, **options)
        assert refusal.value.exit_code == code

    def test_a_report_of_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "text").write_text("no database " * 100)
        for name, said in (("none", "there is no database"), ("text", "cannot be used")):
            with pytest.raises(LLMBertError, match=said):
                report(str(tmp_path / name))


class TestRunsFromStrangers:
    """A folder that means harm is refused in a sentence, and nothing of it is run or believed."""

    @pytest.fixture
    def folder(self, folders: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(folders / "gpt", tmp_path / "gpt"))

    def header(self, folder: Path) -> tuple[dict[str, Any], bytes]:
        data = (folder / "model.safetensors").read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        return json.loads(data[8 : 8 + size]), data[8 + size :]

    def write(self, folder: Path, header: dict[str, Any], data: bytes) -> None:
        text = json.dumps(header).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)

    def refused(self, folder: Path) -> str:
        with pytest.raises(LLMBertError) as refusal:
            load_runs([str(folder)])
        assert "Traceback" not in str(refusal.value)
        return str(refusal.value)

    def test_a_pickle(self, folder: Path) -> None:
        class Harm:
            def __reduce__(self) -> Any:
                return os.system, (f"touch {folder}/harmed",)

        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Harm()))
        assert "pickle" in self.refused(folder) or "unpickled" in self.refused(folder)
        assert not (folder / "harmed").exists()

    def test_shapes_that_lie(self, folder: Path) -> None:
        header, data = self.header(folder)
        name = next(name for name in header if name != "__metadata__" and len(header[name]["shape"]) == 2)
        header[name]["shape"] = [header[name]["shape"][0] * 2, header[name]["shape"][1]]
        self.write(folder, header, data)
        self.refused(folder)

    def test_ten_gigabytes_that_are_only_declared(self, folder: Path) -> None:
        header, data = self.header(folder)
        name = next(name for name in header if name != "__metadata__")
        header[name] = {"dtype": "F32", "shape": [2_500_000_000], "data_offsets": [0, 10_000_000_000]}
        self.write(folder, header, data)
        self.refused(folder)
        config = json.loads((folder / "config.json").read_text())
        config |= {"vocab_size": 10**10, "hidden_size": 10**6, "num_hidden_layers": 10**6, "intermediate_size": 10**7}
        (folder / "config.json").write_text(json.dumps(config))
        began = time.monotonic()
        self.refused(folder)
        assert time.monotonic() - began < 20

    def test_a_config_alone_that_is_too_large(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 10**7}))
        began = time.monotonic()
        self.refused(folder)
        assert time.monotonic() - began < 20

    def test_code_beside_it(self, folder: Path) -> None:
        (folder / "modeling_harm.py").write_text(f"open({str(folder / 'harmed')!r}, 'w')")
        config = json.loads((folder / "config.json").read_text())
        config |= {"auto_map": {"AutoModelForCausalLM": "modeling_harm.Harm"}, "model_type": "harm"}
        (folder / "config.json").write_text(json.dumps(config))
        self.refused(folder)
        assert not (folder / "harmed").exists()

    @pytest.mark.parametrize("facts", [{"languages": "\ud800"}, {"languages": ["x"]}, {"tasks": {"a": 1}}, {"text": 5}])
    def test_facts_of_another_kind(self, folder: Path, facts: dict[str, Any]) -> None:
        known = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(known | facts))
        assert "run.json is damaged" in self.refused(folder)

    def test_a_report_that_is_a_link_elsewhere(self, folder: Path) -> None:
        for name in ("report.html", "log.jsonl"):
            (folder / name).unlink()
            (folder / name).symlink_to("/etc/passwd")
        with process(folder) as (_, url, _):
            assert httpx2.get(url + "/v1/models/gpt/report").status_code == 404
            assert httpx2.get(url + "/v1/models/gpt/curve").json()["data"] == []

    def test_members_of_a_mixture_that_lead_elsewhere(self, folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps({"model_type": "llmbert-mixture", "members": ["../../other"]}))
        assert re.search("members", self.refused(folder))
