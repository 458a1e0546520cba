"""Everything a stopped training needs to go on exactly, in one safetensors file that is replaced at once."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from llmbert.protocols import LLMBertError

FORMAT = "llmbert-checkpoint-1"


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write named tensors and JSON-able facts to `path`, whole or not at all.

    Raises LLMBertError where the disk refuses; an older checkpoint at `path` is then still there.
    """
    beside = path.with_name(path.name + ".partial")
    whole = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    try:
        save_file(whole, beside, metadata={"format": FORMAT, "facts": json.dumps(facts)})
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except (OSError, SafetensorError) as error:
        raise LLMBertError(f"could not write {path}: {error}; free some space there or choose another --out") from error
    finally:
        beside.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and facts of a checkpoint.

    Raises LLMBertError where it is missing, cut short or not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            if facts.get("format") != FORMAT:
                raise LLMBertError(f"{path} is not a checkpoint of this version; train again with another --out")
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(facts["facts"])  # noqa: SIM118
    except FileNotFoundError as error:
        raise LLMBertError(f"there is no checkpoint at {path}; train again with another --out") from error
    except (SafetensorError, OSError, json.JSONDecodeError, KeyError) as error:
        raise LLMBertError(f"{path} is damaged ({error}); train again with another --out") from error


def optimiser_tensors(optimisers: list[torch.optim.Optimizer], names: Mapping[int, str]) -> dict[str, Tensor]:
    """The state of every weight in every optimiser, by "optimiser.<key>.<weight>"; numbers become 0-d tensors."""
    found = {}
    for optimiser in optimisers:
        for weight, state in optimiser.state.items():
            for key, value in state.items():
                found[f"optimiser.{key}.{names[id(weight)]}"] = torch.as_tensor(value)
    return found


def restore_optimisers(
    optimisers: list[torch.optim.Optimizer], weights: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `optimiser_tensors` took."""
    for name, value in tensors.items():
        if not name.startswith("optimiser."):
            continue
        key, weight_name = name.removeprefix("optimiser.").split(".", 1)
        weight = weights[weight_name]
        for optimiser in optimisers:
            if any(weight is held for group in optimiser.param_groups for held in group["params"]):
                # A fused optimiser counts its steps where the weight is, the others on the processor.
                there = value.dim() or optimiser.defaults.get("fused")
                optimiser.state[weight][key] = value.to(weight.device) if there else value.clone()
