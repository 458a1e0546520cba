"""What others made: folders in Hugging Face's layout, and names on its hub. Nothing in them is executed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from llmbert.protocols import LLMBertError, UsageError
from llmbert.runs.files import WEIGHTS, read_json, read_tensors

INDEX = "model.safetensors.index.json"
GENERATION = "generation_config.json"
HUB = "hub:"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
FETCHED = ["*.json", "*.safetensors", "*.txt", "*.model"]
ID_NAMES = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id")
_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def find_folder(name: str | Path) -> Path:
    """The folder of that name, or what was fetched from the hub under it ("org/name", "hub:org/name").

    A name is only looked for on the hub where neither it nor its first part is there as a folder: a mistyped path
    beside runs is a mistyped path.
    """
    path, text = Path(name), str(name)
    if text.startswith(HUB):
        return fetch(text.removeprefix(HUB))
    if path.exists() or not _NAME.fullmatch(text) or text.startswith(".") or path.parent.exists():
        return path
    return fetch(text)


def fetch(name: str) -> Path:
    """The folder with a model of the hub: its configuration, tokeniser and safetensors weights, never a pickle.

    Raises LLMBertError where huggingface_hub is missing, the hub cannot be reached or has no such model.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name of a model on the hub; names look like org/name")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise LLMBertError(
            f"{name} is no folder here, and fetching a model of that name needs huggingface_hub; "
            "install it with pip install 'llmbert[hub]'"
        ) from error
    try:
        folder = Path(snapshot_download(name, allow_patterns=FETCHED))
    except Exception as error:  # of many kinds: no network, no such name, no permission, a full disk
        why = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
        raise LLMBertError(
            f"{name} is no folder here, and no model of that name could be fetched from the hub ({why}); check the "
            "name and the network, or give a folder"
        ) from error
    if not any(folder.glob("*.safetensors")):
        raise LLMBertError(
            f"{name} has no weights as safetensors on the hub, and pickles are never fetched; where you trust it, "
            f"convert it once with Transformers: AutoModel.from_pretrained({name!r}).save_pretrained('a folder')"
        )
    return folder


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The weights in a folder: one safetensors file, or several with an index.

    Raises LLMBertError where they are missing or damaged, and for pickles, which can run code when they are read.
    """
    if (folder / WEIGHTS).exists():
        return read_tensors(folder / WEIGHTS)
    if (folder / INDEX).exists():
        return _read_shards(folder)
    refuse_pickles(folder, sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES))
    return read_tensors(folder / WEIGHTS)


def refuse_pickles(folder: Path, names: Sequence[str]) -> None:
    """Raise LLMBertError, with the way to convert, where `names` holds any."""
    if names:
        raise LLMBertError(
            f"{folder} has its weights as {names[0]}, a pickle, which can run code when it is read and never is here; "
            f"where you trust it, convert it once with Transformers: AutoModel.from_pretrained({str(folder)!r})"
            f".save_pretrained({str(folder)!r})"
        )


def _read_shards(folder: Path) -> dict[str, Tensor]:
    places = read_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(_is_file_name(place) for place in places.values()):
        raise LLMBertError(f"{folder / INDEX} is damaged (it says of no tensor in which file it is); copy it again")
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        tensors |= read_tensors(folder / name)
    missing = sorted(set(places) - set(tensors))
    if missing:
        raise LLMBertError(
            f"{folder / places[missing[0]]} lacks {missing[0]!r}, which {INDEX} says is in it; copy both"
        )
    return tensors


def _is_file_name(place: Any) -> bool:
    return isinstance(place, str) and place.endswith(".safetensors") and Path(place).name == place


def special_ids(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Which ids begin, end and pad a text, by `generation_config.json` and else by `config.json`.

    Ids outside the vocabulary (some files say -1 for none) are left out.
    """
    size = config.get("vocab_size") or 0
    generation = read_json(folder / GENERATION) if (folder / GENERATION).exists() else {}
    found: dict[str, Any] = {}
    for name in ID_NAMES:
        value = generation.get(name)
        value = config.get(name) if value is None else value
        ids = [each for each in (value if isinstance(value, list) else [value]) if _is_id(each, size)]
        if ids:
            found[name] = ids if isinstance(value, list) else ids[0]
    return found


def _is_id(value: Any, size: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < size
