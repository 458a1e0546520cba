"""Text → a trained run: read, split, tokenise, plan, learn, measure, write the page and the card."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmbert.data.batches import CarriedStreams, Windows
from llmbert.data.corpus import Corpus, build_corpus, open_corpus
from llmbert.models import FAMILIES, find_family, nearest
from llmbert.models.scoring import sliding_window_nats
from llmbert.objectives.causal import causal
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.runs import (
    CHECKPOINT,
    FACTS,
    FORMAT,
    LOG,
    Run,
    check_out,
    command_line,
    device,
    disk_error,
    load,
    machine,
    read_facts,
    save_model,
    sweep,
    version,
    versions,
    write_json,
)
from llmbert.text.tokenisers import TOKENISERS, Tokeniser
from llmbert.training.loop import Interrupted, Trainer, resolve_precision
from llmbert.training.settings import TrainingSettings
from llmbert.workbench.budget import Plan, check_length, plan_training
from llmbert.workbench.evaluate import score_shard
from llmbert.workbench.pages import write_run_page
from llmbert.workbench.settings import checked, parse_duration, sort_settings, whole_number

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
DEFAULT_BUDGET = "5m"


@dataclass(frozen=True)
class Source:
    """Which text, and how it becomes documents, splits and tokens."""

    data: list[str]
    valid: list[str] | None = None
    lines: bool = False
    split_on: str | None = None
    fields: dict[str, str] | None = None
    tokenizer: str = "bpe"
    vocabulary_size: int | None = None


@dataclass
class Training:
    """One training under way: what was asked, what was planned, and where it is written."""

    family: str
    out: Path
    corpus: Corpus
    tokeniser: Tokeniser
    plan: Plan
    seed: int
    facts: dict[str, Any]
    progress: Progress = silent
    stop: Callable[[], bool] = lambda: False
    watch: Callable[[dict[str, float]], None] | None = None
    began: float = field(default_factory=time.monotonic)


def train(
    family: str,
    data: Paths,
    out: str | os.PathLike[str],
    *,
    valid: Paths | None = None,
    lines: bool = False,
    split_on: str | None = None,
    fields: Mapping[str, str] | None = None,
    tokenizer: str = "bpe",
    budget: str | float | None = None,
    size: str | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    language: str = "en",
    progress: Progress = silent,
    stop: Callable[[], bool] = lambda: False,
    tensorboard: bool = False,
    corpus: Corpus | None = None,
) -> Run:
    """Train a model of a family on text and write a run folder at `out`.

    data, valid: files, folders, globs, "-" or "hub:NAME"; lines: each line is a document; tokenizer: a kind or the
    folder of a run whose tokeniser is taken; budget: time for all of it ("5m"), which picks size, batch and steps;
    size: tiny, small, medium or large; settings: single values, which stand above both; stop: asked after every step
    whether to save and stop; corpus: what was read from this data already (standard input comes but once).

    Raises UsageError for what is asked wrongly, LLMBertError for data that cannot be used, Interrupted when stopped.
    """
    began = time.monotonic()
    chosen = find_family(family)
    model_values, training_values, corpus_values = sort_settings(chosen, settings or {})
    seed = whole_number("seed", training_values.pop("seed", seed), 0)
    if not chosen.counts:
        training_values["seed"] = seed
        _check_precision(checked(TrainingSettings, training_values).precision)
    preset = _preset(family, size)
    checked(chosen.settings_class(), {**(preset or {}), **model_values})
    seconds = parse_duration(budget) if budget is not None else None
    if seconds is None and not chosen.counts and "steps" not in training_values:
        seconds = parse_duration(DEFAULT_BUDGET)
    folder = Path(out)
    check_out(folder)
    vocabulary_size = corpus_values.get("vocabulary_size")
    source = Source(
        path_list(data),
        path_list(valid) if valid is not None else None,
        lines,
        split_on,
        dict(fields) if fields else None,
        str(tokenizer),
        None if vocabulary_size is None else whole_number("vocabulary_size", vocabulary_size, 5),
    )
    corpus = corpus or read_corpus(source, beside(folder), progress)
    plan = _plan(family, source, corpus, model_values, training_values, preset, seconds, began)
    facts = _facts(family, source, corpus, plan, seed, budget, size, folder, language)
    training = Training(family, folder, corpus, corpus.tokeniser, plan, seed, facts, progress, stop, began=began)
    with _fresh_folder(folder):
        if tensorboard:
            training.watch = _tensorboard(folder)
        return _run(training, resume=False)


def resume(
    out: str | os.PathLike[str], *, progress: Progress = silent, stop: Callable[[], bool] = lambda: False
) -> Run:
    """Go on with a training that was stopped, exactly as if it had not been.

    Raises LLMBertError where there is nothing to go on with, or its corpus is gone or changed.
    """
    folder = Path(out)
    facts = read_facts(folder)
    if facts.get("status") != "training":
        raise LLMBertError(f"{folder} is finished; train again with another --out to go further")
    chosen = find_family(facts["family"])
    corpus = open_corpus(beside(folder) / facts["corpus"])
    if corpus.fingerprint != facts["data"]["fingerprint"]:
        raise LLMBertError(f"the corpus at {corpus.folder} is not the one {folder} was training on; train again")
    model = checked(chosen.settings_class(), facts["settings"]["model"])
    training = checked(TrainingSettings, facts["settings"].get("training") or {})
    state = Training(
        facts["family"], folder, corpus, corpus.tokeniser, Plan(model, training), facts["seed"], facts, progress, stop
    )
    return _run(state, resume=(folder / CHECKPOINT).exists())


def _check_precision(precision: str) -> None:
    if precision == "bfloat16" and resolve_precision("auto", device().type) == "float32":
        raise UsageError(
            "this machine has no bfloat16 units and would emulate them, a hundred times slower; leave precision=auto"
        )


def beside(folder: Path) -> Path:
    """The folder that a run's folder lies in, also where the latter is "." or ends in ".."."""
    return folder.parent if folder.name not in ("", "..") else folder.resolve().parent


def read_corpus(source: Source, root: Path, progress: Progress) -> Corpus:
    """The corpus store of a source, made below `root` or found there again; where that fails, nothing is left."""
    made = [folder for folder in (root / "corpora", root, *root.parents) if not folder.exists()]
    try:
        return _read_corpus(source, root, progress)
    except BaseException:
        for folder in made:
            with suppress(OSError):  # is not there, or holds what is of others
                folder.rmdir()
        raise


def given_tokeniser(name: str) -> Tokeniser | None:
    """The tokeniser of the run folder `name`, or None where it names a kind. Raises UsageError where it is neither."""
    if name in TOKENISERS:
        return None
    if not (Path(name) / "tokenizer.json").exists():
        raise UsageError(
            f"there is no tokeniser {name!r}{nearest(name, TOKENISERS)}; there are {', '.join(TOKENISERS)}, "
            f"or the folder of a run"
        )
    return Tokeniser.load(Path(name))


def _read_corpus(source: Source, root: Path, progress: Progress) -> Corpus:
    given = given_tokeniser(source.tokenizer)
    return build_corpus(
        source.data,
        root / "corpora",
        tokeniser=given,
        kind=given.kind if given else source.tokenizer,
        vocabulary_size=source.vocabulary_size,
        valid_paths=source.valid,
        lines=source.lines,
        split_on=source.split_on,
        fields=source.fields,
        progress=progress,
    )


def path_list(data: Paths) -> list[str]:
    return [os.fspath(data)] if isinstance(data, str | os.PathLike) else [os.fspath(path) for path in data]


def _preset(family: str, size: str | None) -> dict[str, Any] | None:
    if size is None:
        return None
    sizes = FAMILIES[family].sizes
    if size not in sizes:
        raise UsageError(f"{family} has no size {size!r}{nearest(size, sizes)}; there are {', '.join(sizes)}")
    return dict(sizes[size])


def _plan(
    family: str,
    source: Source,
    corpus: Corpus,
    model_values: Mapping[str, Any],
    training_values: Mapping[str, Any],
    preset: Mapping[str, Any] | None,
    seconds: float | None,
    began: float,
) -> Plan:
    """What will be trained, within what of the budget reading the corpus has left."""
    chosen = FAMILIES[family]
    if chosen.counts:
        return Plan(checked(chosen.settings_class(), {**(preset or {}), **model_values}), TrainingSettings())
    torch.manual_seed(training_values["seed"])
    left = None if seconds is None else max(0.3 * seconds, seconds - (time.monotonic() - began))
    plan = plan_training(
        family,
        chosen,
        corpus.tokeniser.vocabulary_size,
        len(corpus.train.ids),
        len(corpus.valid.ids),
        model_values,
        training_values,
        preset,
        left,
    )
    check_length(", ".join(source.data), len(corpus.train.ids), len(corpus.valid.ids), plan.model.context)
    return plan


def _facts(
    family: str,
    source: Source,
    corpus: Corpus,
    plan: Plan,
    seed: int,
    budget: str | float | None,
    size: str | None,
    folder: Path,
    language: str,
) -> dict[str, Any]:
    """`run.json` as far as it is known before training."""
    counts, tokeniser = FAMILIES[family].counts, corpus.tokeniser
    settings = {"model": plan.model.model_dump()} | ({} if counts else {"training": plan.training.model_dump()})
    return {
        "format": FORMAT,
        "llmbert": version(),
        "status": "training",
        "family": family,
        "likelihood": FAMILIES[family].likelihood,
        "command": command_line(),
        "source": asdict(source),
        "budget": budget,
        "size": size,
        "seed": seed,
        "language": language,
        "settings": settings,
        "calibrated_tokens_per_second": plan.tokens_per_second,
        "corpus": os.path.relpath(corpus.folder, beside(folder)),
        "data": corpus.describe(),
        "tokeniser": {
            "kind": tokeniser.kind,
            "vocabulary_size": tokeniser.vocabulary_size,
            "fingerprint": tokeniser.fingerprint,
        },
        "machine": machine(),
        "versions": versions(),
    }


@contextmanager
def _fresh_folder(out: Path) -> Iterator[None]:
    """Makes the run folder, and takes it away again where training fails before anything is worth keeping."""
    existed = out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        if not (out / CHECKPOINT).exists():
            shutil.rmtree(out, ignore_errors=True)
            if existed:
                out.mkdir(exist_ok=True)
        if isinstance(error, OSError):
            raise disk_error(out, error) from error
        raise


def _run(training: Training, resume: bool) -> Run:
    """Learn, measure and write; run.json comes first, so that whatever is killed later can be gone on with."""
    out = training.out
    try:
        sweep(out)
        write_json(out / FACTS, training.facts)
        training.tokeniser.save(out)
        model, learned = _count(training) if FAMILIES[training.family].counts else _learn(training, resume)
        return _finish(training, model, learned)
    except OSError as error:
        raise disk_error(out, error) from error
    except KeyboardInterrupt:
        if not (out / CHECKPOINT).exists():
            raise
        raise Interrupted(f"stopped, everything is saved; {_go_on(out)}") from None


def _go_on(out: Path) -> str:
    return f"go on with: llmbert train --resume {out}"


def _count(training: Training) -> tuple[Any, dict[str, Any]]:
    shard, t = training.corpus.train, training.tokeniser
    began = time.monotonic()
    model = (
        FAMILIES[training.family]
        .model_class()
        .fit(shard.ids, shard.starts, t.vocabulary_size, training.plan.model, training.progress)
    )
    seconds = time.monotonic() - began
    return model, {
        "train_seconds": seconds,
        "train_tokens": len(shard.ids),
        "tokens_per_second": len(shard.ids) / max(seconds, 1e-9),
        "parameters": sum(model.counts()),
    }


def _learn(training: Training, resume: bool) -> tuple[Any, dict[str, Any]]:
    """Gradient descent from random weights, or from the checkpoint."""
    settings, chosen = training.plan.training, FAMILIES[training.family]
    torch.manual_seed(training.seed)
    model = chosen.build(training.plan.model, training.tokeniser.vocabulary_size).to(device())
    shard = training.corpus.train
    context = training.plan.model.context
    batches = (
        CarriedStreams(shard.ids, shard.starts, context, settings.batch, training.seed)
        if chosen.recurrent
        else Windows(
            shard.ids,
            context,
            settings.batch,
            training.seed,
            training.tokeniser.begin_id,
            settings.across_documents,
        )
    )
    every = settings.evaluate_every or max(1, settings.steps // 20)
    tokens = settings.steps * settings.batch * context
    sample = _valid_sample(training, max(4096, int(0.15 * tokens * every / settings.steps)))
    trainer = Trainer(
        model,
        causal,
        batches,
        settings.model_copy(update={"evaluate_every": every}),
        evaluate=lambda: _mean_nats(model, sample, context),
        log=training.out / LOG,
        checkpoint=training.out / CHECKPOINT,
        progress=training.progress,
        stop=training.stop,
        watch=training.watch,
    )
    if resume:
        trainer.resume()
    try:
        at = trainer.run()
    except Interrupted as stopped:
        raise Interrupted(f"{stopped}; {_go_on(training.out)}") from None
    return model, {
        "train_seconds": at.seconds,
        "train_tokens": at.tokens,
        "tokens_per_second": at.tokens / max(at.seconds, 1e-9),
        "parameters": sum(w.numel() for w in model.parameters()),
        "steps": at.step,
        "stopped_early": at.stopped_early,
        "precision": resolve_precision(settings.precision, device().type),
        "valid_curve": at.valid,
    }


def _valid_sample(training: Training, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole documents of the held-out text, or the head of a long one, of about so many tokens."""
    shard = training.corpus.valid
    starts = np.asarray(shard.starts)
    last = int(np.searchsorted(starts, tokens, side="left"))
    last = min(max(1, last), len(starts) - 1)
    end = min(int(starts[last]), int(starts[last - 1]) + tokens)
    return np.asarray(shard.ids[:end]), np.append(starts[:last], end)


def _mean_nats(model: Any, sample: tuple[np.ndarray, np.ndarray], context: int) -> float:
    """Nats/token of a sample; attention sees blocks of its context: quicker, and a little worse, than sliding."""
    ids, starts = sample
    nats = (
        model.token_nats(ids, starts)
        if model.recurrent
        else sliding_window_nats(model, ids, starts, context, stride=context)
    )
    return float(nats.sum() / (len(ids) - len(starts) + 1))


def _finish(training: Training, model: Any, learned: dict[str, Any]) -> Run:
    """Measure the model on all held-out text, write everything, and only then call the run done."""
    out, facts = training.out, training.facts
    save_model(out, model)
    run = Run(out, model, training.tokeniser, facts)
    facts |= learned
    facts["scores"] = score_shard(run, training.corpus.valid, progress=training.progress)
    facts["bytes_on_disk"] = run.bytes_on_disk
    facts["total_seconds"] = time.monotonic() - training.began
    facts["status"] = "done"
    write_run_page(run, training.corpus, training.progress)
    write_json(out / FACTS, facts)
    (out / CHECKPOINT).unlink(missing_ok=True)
    return load(out)


def _tensorboard(folder: Path) -> Callable[[dict[str, float]], None]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise LLMBertError("--tensorboard needs tensorboard; install it with pip install 'llmbert[track]'") from error
    writer = SummaryWriter(str(folder / "tensorboard"))

    def watch(line: dict[str, float]) -> None:
        for name, value in line.items():
            if name != "step":
                writer.add_scalar(name, value, int(line["step"]))

    return watch
