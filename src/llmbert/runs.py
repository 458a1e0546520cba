"""A trained thing on disk: save, load, describe, and use it."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from llmbert.decoding import Delta, Engine, GenerationSettings, Request, Token, beam_search
from llmbert.metrics import TokenNats, likelihood_scores
from llmbert.models import FAMILIES
from llmbert.models.huggingface import export_model, import_model
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.text.tokenisers import Tokeniser

FORMAT = 1
WEIGHTS, CONFIG, FACTS, CHECKPOINT, LOG = (
    "model.safetensors",
    "config.json",
    "run.json",
    "checkpoint.safetensors",
    "log.jsonl",
)
PARTIAL = ".partial"  # how a file's name ends while it is being written


class Run:
    """A trained model with its tokeniser and what is known of it.

    model: a `Stepper` and `Scorer`; facts: `run.json`, {} for a folder from elsewhere.
    """

    def __init__(self, folder: Path, model: Any, tokeniser: Tokeniser | None, facts: dict[str, Any]) -> None:
        self.folder, self.model, self.facts = folder, model, facts
        self._tokeniser = tokeniser

    @property
    def family(self) -> str:
        return str(self.facts.get("family") or getattr(self.model, "family", "ngram"))

    @property
    def tokeniser(self) -> Tokeniser:
        """Raises LLMBertError where the folder has none."""
        if self._tokeniser is None:
            raise LLMBertError(
                f"{self.folder} has no tokeniser that can be read here; give token ids to .logits instead"
            )
        return self._tokeniser

    def logits(self, ids: Any, target_ids: Any = None) -> Tensor:
        """Logits float32 (B, T, V) of token ids (B, T) or (T,); [:, t] predicts the token after ids[:, t].

        target_ids is for families with a source and a target; those here have none. Raises UsageError for ids outside
        the vocabulary.
        """
        if target_ids is not None:
            raise UsageError(f"{self.family} takes one sequence of ids; leave out target_ids")
        block = torch.as_tensor(np.asarray(ids)).long()
        block = block[None] if block.dim() == 1 else block
        if block.dim() != 2 or block.shape[1] == 0:
            raise UsageError(f"ids must be (time,) or (batch, time) with at least one token, not {tuple(block.shape)}")
        if int(block.min()) < 0 or int(block.max()) >= self.model.vocabulary_size:
            raise UsageError(f"ids must lie between 0 and {self.model.vocabulary_size - 1}, the model's vocabulary")
        if isinstance(self.model, torch.nn.Module):
            block = block.to(next(self.model.parameters()).device)
        with torch.inference_mode():
            return self.model.logits(block).cpu()

    def generate(self, prompt: str = "", **settings: Any) -> str:
        """The text the model writes after `prompt` (the prompt itself is not repeated); see `GenerationSettings`."""
        return "".join(delta.text for delta in self.write(prompt, **settings))

    def stream(self, prompt: str = "", **settings: Any) -> Iterator[str]:
        """`generate`, piece by piece as it is written; a piece never ends inside a character."""
        return (delta.text for delta in self.write(prompt, **settings) if delta.text)

    def write(self, prompt: str = "", **settings: Any) -> Iterator[Delta]:
        """The decoding as it goes: tokens, text and, in the last delta, why the text ended.

        Raises UsageError where a setting is unknown or out of range.
        """
        request = Request(self.tokeniser.encode(prompt).tolist(), _generation_settings(settings))
        if request.settings.beams == 1:
            return self.engine().stream(request)
        best = beam_search(self.model, [request], **self._ids())[0][0]
        return iter([Delta(tuple(Token(i) for i in best.tokens), best.text, best.finish)])

    def engine(self, max_batch: int = 32, progress: Progress = silent) -> Engine:
        """The decoding engine over this model, for many texts at once."""
        return Engine(self.model, **self._ids(), max_batch=max_batch, progress=progress)

    def _ids(self) -> dict[str, Any]:
        t = self.tokeniser
        return {
            "begin_id": t.begin_id,
            "end_id": t.end_id,
            "padding_id": t.padding_id,
            "unknown_id": t.unknown_id,
            "decode": t.decode,
            "token_bytes": t.token_bytes(),
        }

    def score(self, texts: str | Sequence[str]) -> dict[str, Any]:
        """How probable texts are, each a document of its own: the scores of `llmbert evaluate`, and "nats" per text."""
        documents = [texts] if isinstance(texts, str) else list(texts)
        if not documents:
            raise UsageError("there is no text to score; give at least one")
        parts = [self.document_ids(text) for text in documents]
        ids = np.concatenate(parts)
        starts = np.concatenate(([0], np.cumsum([len(part) for part in parts])))
        nats = self.model.token_nats(ids, starts)
        text = TokenNats(
            nats,
            starts,
            np.array([len(text.encode()) for text in documents]),
            np.array([len(text) for text in documents]),
            int((ids == self.tokeniser.unknown_id).sum()),
        )
        scores = likelihood_scores(text, **self.signature())
        totals = np.add.reduceat(nats, starts[:-1], dtype=np.float64)
        return scores | {"nats": [float(total) if math.isfinite(total) else None for total in totals]}

    def document_ids(self, text: str) -> np.ndarray:
        """A text as a document's ids: begin, tokens, end."""
        t = self.tokeniser
        return np.concatenate(([t.begin_id], t.encode(text), [t.end_id])).astype(np.int64)

    def signature(self) -> dict[str, Any]:
        """The parts of a score's signature that are this run's."""
        return {
            "likelihood": self.model.likelihood,
            "tokeniser": f"{self.tokeniser.kind}-{self.tokeniser.fingerprint[:8]}",
            "context": self.model.scoring_signature,
        }

    def write_arpa(self, path: str | os.PathLike[str], progress: Progress = silent) -> None:
        """Write an n-gram model as an ARPA file (gzipped where `path` ends in .gz), whole or not at all.

        Raises UsageError for another family, LLMBertError for smoothing that does not back off or a full disk.
        """
        if self.family != "ngram":
            raise UsageError(f"only an n-gram model can be written as ARPA, and {self.folder} is a {self.family}")
        from llmbert.models.ngram.arpa import write_arpa

        write_arpa(self.model, self.tokeniser.token_texts(), Path(path), progress)

    @property
    def bytes_on_disk(self) -> int:
        """Bytes of the weights and the tokeniser: what must be shipped."""
        return sum(
            (self.folder / name).stat().st_size
            for name in (WEIGHTS, CONFIG, "tokenizer.json")
            if (self.folder / name).exists()
        )


def _generation_settings(settings: Mapping[str, Any]) -> GenerationSettings:
    unknown = [name for name in settings if name not in GenerationSettings.__dataclass_fields__]
    if unknown:
        known = ", ".join(GenerationSettings.__dataclass_fields__)
        raise UsageError(f"generation has no setting {unknown[0]!r}; there are {known}")
    return GenerationSettings(**settings)


def version() -> str:
    try:
        return metadata.version("llmbert")
    except metadata.PackageNotFoundError:
        return "0"


def versions() -> dict[str, str]:
    """What a result depends on: of Python and the libraries."""
    found = {name: metadata.version(name) for name in ("torch", "numpy", "tokenizers", "safetensors")}
    return {"llmbert": version(), "python": platform.python_version()} | found


def machine() -> str:
    """The machine in a few words: processor, cores, memory."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0
    return f"{name}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}"


def device() -> torch.device:
    """Where models are trained: the GPU where there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


# ---- writing -------------------------------------------------------------------------------------------------------


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all. Raises LLMBertError where the disk refuses."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text whole or not at all. Raises LLMBertError where the disk refuses."""
    beside = path.with_name(path.name + PARTIAL)
    try:
        # A file name that is no UTF-8 reaches Python as lone surrogates; they go out as their escapes.
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")
        beside.replace(path)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        beside.unlink(missing_ok=True)


def disk_error(path: Path, error: Exception) -> LLMBertError:
    return LLMBertError(f"could not write {path}: {error}; free some space there or choose another --out")


def check_out(folder: Path) -> None:
    """Refuse a folder that already holds something: nothing of the user's is ever overwritten."""
    if (folder / FACTS).exists():
        mend = "choose another --out" + (
            f", or go on with it: llmbert train --resume {folder}" if run_status(folder) == "training" else ""
        )
        raise LLMBertError(f"{folder} already holds a run; {mend}")
    if folder.exists() and (not folder.is_dir() or any(file.suffix != PARTIAL for file in folder.iterdir())):
        raise LLMBertError(f"{folder} already exists and is not an empty folder; choose another --out")


def sweep(folder: Path) -> None:
    """Remove what a killed process had half written (`.tmp…` is how safetensors begins a file)."""
    for pattern in (f"*{PARTIAL}", "*.part", ".tmp*"):
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)


def run_status(folder: Path) -> str | None:
    """How far the run in a folder is: "training", "done", or None where there is none or it is damaged."""
    try:
        return read_json(folder / FACTS).get("status")
    except LLMBertError:
        return None


def save_model(folder: Path, model: Any) -> None:
    """Write `model.safetensors` and `config.json`, each whole or not at all."""
    if hasattr(model, "tensors"):
        config = {"model_type": "llmbert-ngram", "vocab_size": model.vocabulary_size, "settings": model.config()}
        tensors = model.tensors()
    else:
        config, tensors = export_model(model)
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


# ---- reading -------------------------------------------------------------------------------------------------------


def read_facts(folder: Path) -> dict[str, Any]:
    """`run.json` of a run. Raises LLMBertError where it is no run, damaged, or of a later format."""
    path = folder / FACTS
    if not folder.is_dir():
        raise LLMBertError(f"there is no run at {folder}; give the folder that llmbert train --out wrote")
    if not path.exists():
        raise LLMBertError(f"{folder} is not a run: it has no {FACTS}; give the folder that llmbert train --out wrote")
    facts = read_json(path)
    if facts.get("format") != FORMAT:
        raise LLMBertError(
            f"{folder} is a run of format {facts.get('format')!r}, of llmbert {facts.get('llmbert', 'unknown')}; "
            f"this llmbert {version()} reads format {FORMAT}; use that version or train again"
        )
    return facts


def load(folder: str | Path) -> Run:
    """A run, or a folder in Hugging Face's layout (GPT-2, Qwen3), ready to use; nothing in it is executed.

    Raises LLMBertError where it is missing, unfinished, damaged or of another version.
    """
    path = Path(folder)
    facts = read_facts(path) if (path / FACTS).exists() or not (path / CONFIG).exists() else {}
    if facts.get("status") == "training":
        raise LLMBertError(f"{path} is not finished; go on with it: llmbert train --resume {path}")
    config = read_json(path / CONFIG)
    tensors = read_tensors(path / WEIGHTS)
    try:
        model = _model_of(config, tensors)
    except LLMBertError as error:
        raise LLMBertError(f"{path} cannot be read: {error}; copy it again or train again") from error
    return Run(path, model, _load_tokeniser(path, facts, model), facts)


def _model_of(config: Mapping[str, Any], tensors: dict[str, Tensor]) -> Any:
    if config.get("model_type") != "llmbert-ngram":
        return import_model(config, tensors).to(device())
    settings = config.get("settings")
    if not isinstance(settings, dict):
        raise LLMBertError(f"{CONFIG} describes no n-gram model: its settings are missing")
    return FAMILIES["ngram"].model_class().from_tensors(tensors, settings)


def _load_tokeniser(path: Path, facts: Mapping[str, Any], model: Any) -> Tokeniser | None:
    if not facts:
        try:
            return Tokeniser.load(path)
        except LLMBertError:
            return None
    tokeniser = Tokeniser.load(path)
    if tokeniser.vocabulary_size != model.vocabulary_size:
        raise LLMBertError(
            f"{path} does not fit together: its tokeniser has {tokeniser.vocabulary_size} tokens, its model "
            f"{model.vocabulary_size}; one of the files is from another run"
        )
    return tokeniser


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises LLMBertError where it is missing, cut short or damaged."""
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise LLMBertError(f"{path} is missing; the run is not complete: train again or copy it whole") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise LLMBertError(f"{path} is damaged ({error}); copy it again or train again") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises LLMBertError where it is missing or damaged."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise LLMBertError(f"{path} is missing; the run is not complete: train again or copy it whole") from error
    except (OSError, ValueError, RecursionError) as error:
        raise LLMBertError(f"{path} is damaged ({error}); copy it again or train again") from error
    if not isinstance(content, dict):
        raise LLMBertError(f"{path} is damaged (it holds no JSON object); copy it again or train again")
    return content


def command_line() -> str:
    """How this program was called, for the record."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
