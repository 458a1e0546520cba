"""Files of a run as they are read."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmbert.protocols import LLMBertError
from llmbert.runs import check_out, command_line, write_json
from llmbert.runs.files import FACTS, KINDS, read_tensors


def written(path: Path) -> dict[str, torch.Tensor]:
    """A file of tensors of every kind, some without numbers or without dimensions."""
    numbers = torch.arange(6).reshape(2, 3)
    tensors = {f"of {name}": numbers.to(kind) for name, kind in KINDS.items()}
    tensors |= {"none": torch.empty(0, 3), "one": torch.tensor(2.5)}
    save_file(tensors, path, metadata={"format": "pt"})
    return tensors


def test_tensors_of_every_kind_are_read_as_the_library_reads_them(tmp_path: Path) -> None:
    tensors = written(tmp_path / "x.safetensors")
    found, expected = read_tensors(tmp_path / "x.safetensors"), load_file(tmp_path / "x.safetensors")
    assert found.keys() == expected.keys() == tensors.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape
        assert torch.equal(found[name].float(), tensor.float())


def test_what_is_read_is_no_longer_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(100_000)}, path)
    found = read_tensors(path)
    save_file({"a": torch.zeros(100_000)}, path)
    assert bool((found["a"] == 1).all())
    found["a"].fill_(7)
    assert bool((read_tensors(path)["a"] == 0).all())


@pytest.mark.parametrize("damage", ["cut", "head", "empty"])
def test_a_damaged_file_is_said_to_be(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    written(path)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-3], "head": whole[:4] + b"\xff" * 9 + whole[13:], "empty": b""}[damage])
    with pytest.raises(LLMBertError, match="is damaged"):
        read_tensors(path)


def test_a_command_is_recorded_as_a_shell_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["train", "--split-on", "\n\n+", "--data", "it's mine.txt", "--set=width=8", "--prompt", ""]
    monkeypatch.setattr(sys, "argv", ["/usr/bin/llmbert", *arguments])
    assert shlex.split(command_line()) == ["llmbert", *arguments]
    assert shlex.split(command_line(str.upper)) == ["llmbert", *(each.upper() for each in arguments)]


def test_how_to_go_on_may_be_typed_as_it_stands(tmp_path: Path) -> None:
    (run := tmp_path / "my run").mkdir()
    write_json(run / FACTS, {"status": "training"})
    with pytest.raises(LLMBertError) as refused:
        check_out(run)
    assert shlex.split(str(refused.value).partition("go on with it: ")[2]) == ["llmbert", "train", "--resume", str(run)]
