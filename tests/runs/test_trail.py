"""The audit trail: it grows, it binds each line to the one before, and it tells when somebody changed it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from llmbert.protocols import LLMBertError
from llmbert.runs.trail import TRAIL, note_beside, note_trail, read_trail


def test_lines_are_added_and_read_again(tmp_path: Path) -> None:
    assert read_trail(tmp_path) == []
    note_trail(tmp_path, "train", "gpt", family="gpt")
    note_trail(tmp_path, "export", "gpt", kind="gguf")
    found = read_trail(tmp_path)
    assert [(entry["action"], entry["run"]) for entry in found] == [("train", "gpt"), ("export", "gpt")]
    assert found[0]["family"] == "gpt" and found[0]["user"] and found[0]["time"].endswith("+00:00")


def test_many_at_once_keep_the_chain(tmp_path: Path) -> None:
    threads = [threading.Thread(target=note_trail, args=(tmp_path, "train", f"run{i}")) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({entry["run"] for entry in read_trail(tmp_path)}) == 20


def test_a_line_cut_short_spoils_nothing(tmp_path: Path) -> None:
    note_trail(tmp_path, "train", "gpt")
    with (tmp_path / TRAIL).open("a", encoding="utf-8") as file:
        file.write('{"time": "20')
    note_trail(tmp_path, "export", "gpt")
    assert [entry["action"] for entry in read_trail(tmp_path)] == ["train", "cut short", "export"]


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [lines[0].replace("gpt", "cat"), *lines[1:]],
        lambda lines: [lines[0], lines[2]],
        lambda lines: [lines[1], lines[0], lines[2]],
        lambda lines: [lines[0], "{}", *lines[1:]],
    ],
)
def test_a_change_is_told(tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    for action in ("train", "forget", "export"):
        note_trail(tmp_path, action, "gpt")
    path = tmp_path / TRAIL
    path.write_text("\n".join(change(path.read_text("utf-8").splitlines())) + "\n", encoding="utf-8")
    with pytest.raises(LLMBertError, match="line"):
        read_trail(tmp_path)


def test_what_is_done_beside_a_store_is_noted_there_and_elsewhere_not(tmp_path: Path) -> None:
    note_beside(tmp_path / "run", "fine-tune")
    assert not (tmp_path / "corpora").exists()
    (tmp_path / "corpora").mkdir()
    note_beside(tmp_path / "run", "fine-tune", base="first")
    (entry,) = read_trail(tmp_path / "corpora")
    assert (entry["action"], entry["run"], entry["base"]) == ("fine-tune", "run", "first")


def test_the_user_is_who_the_system_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwd = pytest.importorskip("pwd", reason="this system has no list of users")
    monkeypatch.setenv("LOGNAME", "somebody-else")
    note_trail(tmp_path, "train", "run")
    (entry,) = read_trail(tmp_path)
    assert entry["user"] == pwd.getpwuid(os.getuid()).pw_name != "somebody-else"
