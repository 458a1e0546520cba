"""Folder → run, model → folder."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from llmbert.models import FAMILIES
from llmbert.models.huggingface import export_model, import_model
from llmbert.nn.packed import PackedKind
from llmbert.protocols import LLMBertError, UsageError
from llmbert.runs.files import CONFIG, FACTS, MEMBERS, PARTIAL, WEIGHTS, disk_error, read_facts, read_json, write_json
from llmbert.runs.foreign import PICKLES, find_folder, read_weights, refuse_pickles, special_ids
from llmbert.runs.machine import device, resume_command
from llmbert.runs.run import Run
from llmbert.text.foreign import FOREIGN, ForeignTokeniser, load_tokeniser
from llmbert.text.tokenisers import Tokeniser
from llmbert.text.vocabulary import MASK_TOKEN

MIXTURE = "llmbert-mixture"


def load(folder: str | Path, weights: str | None = None) -> Run:
    """A run, a folder in Hugging Face's layout, or a model of the hub ("org/name"), ready to use.

    weights: of a GPT or a Transformer, kept in memory as "float32", "bfloat16" or "int8" for writing fast on a
    processor, where a token takes as long as its weights take to be read; see `CompactGPT`.

    Nothing in it is executed or unpickled. Raises LLMBertError where it is missing, unfinished, damaged, of another
    version or of an architecture that cannot be read here.
    """
    path = find_folder(folder)
    if path.is_file() and path.suffix in PICKLES:
        refuse_pickles(path.parent, [path.name])
    facts = read_facts(path) if (path / FACTS).exists() or not (path / CONFIG).exists() else {}
    if facts.get("status") == "training":
        raise LLMBertError(f"{path} is not finished; go on with it: {resume_command(path)}")
    config = read_json(path / CONFIG)
    tensors = read_weights(path)
    try:
        mixed = config.get("model_type") == MIXTURE
        model = _mixture_of(path, config, tensors) if mixed else _model_of(config, tensors)
    except LLMBertError as error:
        raise LLMBertError(f"{path} cannot be read: {error}; {_mend(facts, config)}") from error
    if weights is not None:
        model = _compact(path, model, weights)
    tokeniser = _load_tokeniser(path, facts, config, model)
    if isinstance(tokeniser, Tokeniser):
        _tell_mask(model, tokeniser)
    return Run(path, model, tokeniser, facts)


def _compact(path: Path, model: Any, weights: str) -> Any:
    from llmbert.models.compact import CompactGPT, CompactTransformer
    from llmbert.models.gpt import GPT
    from llmbert.models.transformer import Transformer
    from llmbert.nn.native import why_not_native

    if weights not in get_args(PackedKind):
        raise UsageError(f"weights are {', '.join(get_args(PackedKind))}, not {weights!r}")
    kind = cast(PackedKind, weights)
    if (missing := why_not_native()) is not None and isinstance(model, GPT | Transformer):
        warnings.warn(
            f"without native steps weights of {kind} are slower than whole ones ({missing}); install g++, or leave "
            "--weights out",
            UserWarning,
            stacklevel=3,
        )
    if isinstance(model, GPT):
        return CompactGPT(model.cpu(), kind)
    if isinstance(model, Transformer):
        return CompactTransformer(model.cpu(), kind)
    what = getattr(model, "family", "model")
    raise UsageError(f"weights of another kind are for a gpt or a transformer, and {path} is a {what}")


def _mend(facts: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    if facts:
        return "copy it again or train again"
    return "its code is never run here" if "auto_map" in config else "copy it again or take another model"


def _model_of(config: Mapping[str, Any], tensors: dict[str, Tensor]) -> Any:
    if config.get("model_type") != "llmbert-ngram":
        return import_model(config, tensors, given=True).to(device())
    settings = config.get("settings")
    if not isinstance(settings, dict):
        raise LLMBertError(f"{CONFIG} describes no n-gram model: its settings are missing")
    return FAMILIES["ngram"].model_class().from_tensors(tensors, settings)


def _mixture_of(path: Path, config: Mapping[str, Any], tensors: dict[str, Tensor]) -> Any:
    """A mixture and its members, which lie below it."""
    names, family = config.get("members"), FAMILIES["mixture"]
    if not isinstance(names, list) or not all(isinstance(name, str) and _is_member(name) for name in names):
        raise LLMBertError(f"{CONFIG} does not name the members of the mixture")
    nested = [name for name in names if read_json(path / MEMBERS / name / CONFIG).get("model_type") == MIXTURE]
    if nested:
        raise LLMBertError(f"its member {nested[0]} is itself a mixture, which no training writes")
    members = [load(path / MEMBERS / name).model for name in names]
    try:
        settings = family.settings_class()(**config["settings"])
        model = family.model_class()(settings, members)
        own = {name: weight.shape for name, weight in model.named_parameters() if name in ("weights", "gate")}
        if own != {name: tensor.shape for name, tensor in tensors.items()}:
            raise ValueError(f"its weights are {', '.join(sorted(tensors))} of other shapes")
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise LLMBertError(f"{CONFIG} does not describe a mixture: {error}") from error
    model.load_state_dict(tensors, strict=False)
    return model.to(device()).eval()


def _is_member(name: str) -> bool:
    """Whether a name is that of a folder below, and no way out of there."""
    return Path(name).name == name and name not in ("", ".", "..")


def _load_tokeniser(
    path: Path, facts: Mapping[str, Any], config: Mapping[str, Any], model: Any
) -> Tokeniser | LLMBertError:
    """The tokeniser of a folder; for one from elsewhere the reason where there is none: ids can be given all the same.

    A tokeniser from elsewhere may have fewer tokens than the model, whose matrices are often rounded up.
    """
    try:
        tokeniser = _read_tokeniser(path, facts, config)
        size = tokeniser.vocabulary_size
        exact = not isinstance(tokeniser, ForeignTokeniser)
        if size > model.vocabulary_size or (exact and size != model.vocabulary_size):
            raise LLMBertError(
                f"{path} does not fit together: its tokeniser has {size} tokens, its model {model.vocabulary_size}; "
                "one of the files is from another run"
            )
    except LLMBertError as error:
        if facts:
            raise
        return error
    return tokeniser


def open_tokeniser(folder: Path) -> Tokeniser:
    """The tokeniser of a run, or of a folder in Hugging Face's layout. Raises LLMBertError where there is none."""
    facts = read_facts(folder) if (folder / FACTS).exists() else {}
    return _read_tokeniser(folder, facts, read_json(folder / CONFIG) if (folder / CONFIG).exists() else {})


def _read_tokeniser(path: Path, facts: Mapping[str, Any], config: Mapping[str, Any]) -> Tokeniser:
    known = facts.get("tokeniser")
    ours = bool(facts) and not (isinstance(known, dict) and known.get("kind") == FOREIGN)
    return Tokeniser.load(path) if ours else load_tokeniser(path, special_ids(path, config))


def _tell_mask(model: Any, tokeniser: Tokeniser) -> None:
    """Tell a masked model its mask token: the tokeniser knows it, Hugging Face's `config.json` has no place for it."""
    settings = getattr(model, "settings", None)
    if getattr(settings, "mask_id", 0) is None and getattr(settings, "masked", False):
        mask = (
            tokeniser.mask_id if isinstance(tokeniser, ForeignTokeniser) else tokeniser.special_ids.get(MASK_TOKEN, -1)
        )
        if mask >= 0:
            model.settings = settings.model_copy(update={"mask_id": mask})  # type: ignore[union-attr]


def save_model(folder: Path, model: Any, special: Mapping[str, Any] | None = None) -> None:
    """Write `model.safetensors` and `config.json`, each whole or not at all.

    special: ids of special tokens as `config.json` names them, where they are not those of our own tokenisers; of a
    mixture "members", the names of their folders in its own.
    """
    if getattr(model, "family", None) == "mixture":
        settings = model.settings.model_dump()
        config = {"model_type": MIXTURE, "vocab_size": model.vocabulary_size, "settings": settings, **(special or {})}
        tensors = {name: weight for name, weight in model.named_parameters() if "." not in name}
    elif hasattr(model, "tensors"):
        config = {"model_type": "llmbert-ngram", "vocab_size": model.vocabulary_size, "settings": model.config()}
        tensors = model.tensors()
    else:
        config, tensors = export_model(model)
        config |= dict(special or {})
    beside = folder / (WEIGHTS + PARTIAL)
    try:
        save_file({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, beside, metadata={"format": "pt"})
        beside.chmod((folder / "tokenizer.json").stat().st_mode & 0o777)  # the writer leaves it to its owner alone
        beside.replace(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise disk_error(folder / WEIGHTS, error) from error
    finally:
        beside.unlink(missing_ok=True)
    write_json(folder / CONFIG, config)
