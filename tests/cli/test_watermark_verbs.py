"""llmbert generate --watermark and llmbert watermark: from a key to a verdict; the key itself is seen nowhere."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from running import llmbert, snapshot

USAGE, FAILED = 2, 1


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "key"
    assert llmbert("watermark", "key", path).code == 0
    return path


def test_a_key_is_made_once(key: Path) -> None:
    secret = key.read_text().strip()
    assert len(bytes.fromhex(secret)) == 32 and stat.S_IMODE(key.stat().st_mode) == 0o600
    again = llmbert("watermark", "key", key)
    assert again.code == FAILED and "exists" in again.err and key.read_text().strip() == secret


@pytest.mark.parametrize("family", ["gpt", "lstm", "ngram"])
def test_written_with_a_key_and_found_with_it(family: str, runs: Path, key: Path) -> None:
    before = snapshot(runs)
    # a run of a few steps: warm enough to have entropy in every byte
    ask = ["generate", runs / family, "--prompt=the river", "--max-tokens=300", "--temperature=1.5", "--json"]
    plain, marked = (llmbert(*ask, *more).json() for more in ([], ["--watermark", key, "--watermark-strength", "3"]))
    assert plain["text"] != marked["text"] and plain["settings"] == marked["settings"]
    detect = ["watermark", "detect", runs / family, "--key", key]
    found = [llmbert(*detect, "--text", each["text"], "--json").json() for each in (marked, plain)]
    assert [each["marked"] for each in found] == [True, False]
    shown_bytes = "".join(token for token, _ in found[0]["tokens"] if token != "�")  # a byte of a longer character
    assert shown_bytes == "".join(letter for letter in marked["text"] if letter.isascii())
    shown = llmbert(*detect, "--text", marked["text"])
    assert shown.code == 0 and "\tmarked" in shown.out and "distinct pairs" in shown.out
    secret = key.read_text().strip()
    assert snapshot(runs) == before and not any(secret.encode() in (each or b"") for each in before.values())
    assert secret not in json.dumps([plain, marked, found]) + shown.out + shown.err


def test_a_file_of_texts(runs: Path, key: Path, tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("the river runs to the sea\nwhere it bends a mill\n")
    detect = ["watermark", "detect", runs / "gpt", "--key", key, "--data", path, "--lines"]
    result = llmbert(*detect)
    assert (result.code, result.out.count("\n")) == (0, 2) and "0 of 2 texts are marked" in result.err
    lines = [json.loads(line) for line in llmbert(*detect, "--json").out.splitlines()]
    assert [line["id"] for line in lines] == ["texts.txt:1", "texts.txt:2"]
    assert not any(line["marked"] for line in lines) and all(0 < line["p"] <= 1 for line in lines)


BAD: dict[str, tuple[list[str], int, list[str]]] = {
    "no key file": (["--text=x", "--key=missing"], FAILED, ["missing", "cannot be read", "watermark key"]),
    "short key": (["--text=x", "--key=short"], FAILED, ["6 bytes", "guessed"]),
    "nothing to read": (["--key=key"], USAGE, ["--text", "--data"]),
    "two texts": (["--key=key", "--text=x", "--data=short"], USAGE, ["--text", "--data"]),
    "gamma": (["--key=key", "--text=x", "--gamma=1.5"], USAGE, ["gamma", "1.5"]),
    "width": (["--key=key", "--text=x", "--width=0"], USAGE, ["width", "0"]),
    "threshold": (["--key=key", "--text=x", "--threshold=0"], USAGE, ["threshold"]),
    "no data": (["--key=key", "--data=no.txt"], FAILED, ["no.txt", "does not exist"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_request_is_one_sentence(
    case: str, runs: Path, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, code, words = BAD[case]
    (tmp_path / "short").write_text("secret")
    (tmp_path / "key").write_bytes(key.read_bytes())
    monkeypatch.chdir(tmp_path)
    result = llmbert("watermark", "detect", runs / "gpt", *options)
    assert (result.code, result.out) == (code, "") and result.err.count("\n") == 1
    assert "unforeseen" not in result.err and "secret" not in result.err
    for word in words:
        assert word in result.err


def test_a_folder_without_a_tokeniser(key: Path, tmp_path: Path) -> None:
    result = llmbert("watermark", "detect", tmp_path, "--key", key, "--text=x")
    assert result.code == FAILED and result.err.count("\n") == 1 and "unforeseen" not in result.err


@pytest.mark.parametrize(("strength", "key_text"), [("0", None), ("200", None), ("2", "secret")])
def test_generate_refuses_what_marks_nothing(
    strength: str, key_text: str | None, runs: Path, key: Path, tmp_path: Path
) -> None:
    path = key
    if key_text:
        path = tmp_path / "short"
        path.write_text(key_text)
    result = llmbert("generate", runs / "gpt", "--watermark", path, "--watermark-strength", strength)
    assert result.code == (FAILED if key_text else USAGE) and result.out == "" and result.err.count("\n") == 1
    assert "secret" not in result.err
