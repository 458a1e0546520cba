"""Text → a trained run: read, split, tokenise, plan, learn, measure, write the page and the card."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from llmbert.data.corpus import Corpus
from llmbert.data.pairs import PairShard
from llmbert.models import FAMILIES, find_family
from llmbert.protocols import LLMBertError, Progress, UsageError, silent
from llmbert.runs import (
    CHECKPOINT,
    FACTS,
    LOG,
    MEMBERS,
    Run,
    check_out,
    device,
    forget_peak_memory,
    load,
    peak_memory,
    read_facts,
    run_status,
    save_model,
    sweep,
    write_json,
)
from llmbert.runs.trail import note_trail
from llmbert.text.foreign import ForeignTokeniser
from llmbert.text.tokenisers import TOKENISERS, Tokeniser
from llmbert.training.loop import Interrupted, Trainer, resolve_precision
from llmbert.training.settings import TrainingSettings
from llmbert.workbench.budget import (
    Plan,
    check_length,
    fitting,
    keeps_its_steps,
    plan_training,
    rungs_of,
    shape_for,
    time_reading,
)
from llmbert.workbench.folders import (
    first_facts,
    fresh_folder,
    keeping_time,
    note_done,
    telling_how_to_go_on,
    tensorboard_of,
)
from llmbert.workbench.lessons import OBJECTIVES, Lesson, find_objective
from llmbert.workbench.measure import measure_run
from llmbert.workbench.mixing import check_members, fit_mixture, member_seconds, parse_members, read_again
from llmbert.workbench.pages import seconds_of_baselines, write_run_page
from llmbert.workbench.preflight import Case, refuse_faults
from llmbert.workbench.privacy.noise import count_privacy, learn_with_noise
from llmbert.workbench.settings import (
    MOST_SEED,
    Asked,
    budget_seconds,
    check_options,
    check_precision,
    check_shape,
    check_used,
    check_watched,
    checked,
    is_used,
    keeps_end,
    meant_objective,
    parse_duration,
    preset_of,
    sort_settings,
    source_of,
    whole_number,
)
from llmbert.workbench.sources import (
    USUAL_TOKENISER,
    Paths,
    Source,
    Store,
    beside,
    open_store,
    read_corpus,
    read_pair_corpus,
)

PREFLIGHT_SECONDS = 10.0


@dataclass
class Training:
    """One training under way: what was asked, what was planned, and where it is written.

    vocabulary_size: of the model, which a base from elsewhere may have larger than its tokeniser; base: the run whose
    weights it begins with, None for random ones.
    """

    family: str
    objective: str
    out: Path
    store: Store
    tokeniser: Tokeniser
    vocabulary_size: int
    plan: Plan
    seed: int
    facts: dict[str, Any]
    base: str | None = None
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
    tokenizer: str = USUAL_TOKENISER,
    lowercase: bool = False,
    detokenise: str | None = None,
    mixture: Sequence[Mapping[str, Any]] | None = None,
    objective: str | None = None,
    task: str | None = None,
    languages: str | None = None,
    base: str | os.PathLike[str] | None = None,
    budget: str | float | None = None,
    size: str | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    language: str = "en",
    progress: Progress = silent,
    stop: Callable[[], bool] = lambda: False,
    tensorboard: bool = False,
    store: Store | None = None,
    without: Sequence[str] = (),
    part: tuple[int, int] | None = None,
    licence: str | None = None,
) -> Run:
    """Train a model of a family on text and write a run folder at `out`.

    data, valid: files, folders, globs, "-" or "hub:NAME"; for pairs two text files whose lines belong together, or
    records with fields {"source": …, "target": …} or {"turns": …}; mixture: several sets of pairs with a prefix each,
    in the place of data; lines: each line is a document; tokenizer: a kind or the folder of a run whose tokeniser is
    taken; lowercase: of pairs; detokenise: targets are "words" apart by spaces, or cut at "hyphens" too, to be put
    together; objective: how it learns, where a family has several; task: what pairs are for (translate, summarise,
    write, chat, classify), which picks the metrics; languages: of pairs, "en-de" or "zh"; base: a run of the family to
    begin with, its shape and tokeniser included; budget: time for all of it ("5m"), which picks size, batch and steps;
    size: tiny, small, medium or large; settings: single values, which stand above both; stop: asked after every step
    whether to save and stop; store: what was read from this data already (standard input comes but once); without: ids
    of documents that are passed over, as if they did not stand there; part: which of how many parts of the documents
    `store` holds; licence: of the text, for the model card.

    Raises UsageError for what is asked wrongly, LLMBertError for data that cannot be used, Interrupted when stopped.
    """
    began = time.monotonic()
    if tensorboard:
        check_watched(family, settings or {})
    parts = (fields, tokenizer, lowercase, detokenise, mixture, objective, task, languages)
    asked = Asked(
        family, data, out, valid, lines, split_on, *parts, base, budget, size, settings or {}, seed, language, store,
        without, part, licence,
    )  # fmt: skip
    training = prepare(asked, progress, began)
    training.stop = stop
    with fresh_folder(training.out), tensorboard_of(training.out, tensorboard) as training.watch:
        return carry_out(training)


def prepare(asked: Asked, progress: Progress, began: float) -> Training:
    """Read the text and plan: all of a training but the training itself. began: when its budget did.

    Raises UsageError for what is asked wrongly, LLMBertError for data that cannot be used.
    """
    chosen = find_family(asked.family)
    model_values, training_values, corpus_values = sort_settings(chosen, asked.settings)
    seed = whole_number("seed", training_values.pop("seed", asked.seed), 0, MOST_SEED)
    if not chosen.counts:
        training_values["seed"] = seed
        check_precision(checked(TrainingSettings, training_values).precision)
    preset = preset_of(asked.family, asked.size)
    source = source_of(asked, corpus_values.get("vocabulary_size"))
    learns = find_objective(asked.objective or meant_objective(training_values), chosen, source.has_pairs)
    check_options(asked, learns)
    check_used(training_values, learns, asked.family)
    said = tuple(model_values)
    if learns == "pairs" and keeps_end(asked):
        training_values.setdefault("keep_end", True)
    model_values, source, preset, held = _from_base(asked.base, asked.family, model_values, source, preset)
    seconds = budget_seconds(asked.budget, chosen, training_values)
    first, *_ = fitting(chosen, rungs_of(asked.family, model_values, preset, None if chosen.mixes else seconds))
    check_shape(asked.family, first.model_dump(), said)
    folder = Path(asked.out)
    check_out(folder)
    store = asked.store or read_store(learns, source, beside(folder), progress)
    held = _check_room(learns, store, held)
    decided = (model_values, training_values, preset, seconds, began, asked.also_read)
    plan = _plan(asked.family, learns, source, store, *decided)
    facts = first_facts(
        asked.family, learns, asked.task, asked.languages, source, store, plan, seed, asked.budget, asked.size,
        folder, asked.language,
    )  # fmt: skip
    facts |= {"base": None if asked.base is None else os.fspath(asked.base), "vocabulary_size": held}
    facts |= {"part": list(asked.part)} if asked.part else {}
    facts |= {"licence": asked.licence} if asked.licence else {}
    told = chosen.mixes or plan.training.noise
    facts |= {"asked": {"seconds": seconds, "training": training_values}} if told else {}
    rest = (store.tokeniser, held, plan, seed, facts, facts["base"], progress)
    return Training(asked.family, learns, folder, store, *rest, began=began)


def resume(
    out: str | os.PathLike[str],
    *,
    progress: Progress = silent,
    stop: Callable[[], bool] = lambda: False,
    tensorboard: bool = False,
) -> Run:
    """Go on with a training that was stopped, exactly as if it had not been; tensorboard: the steps from here on.

    Raises LLMBertError where there is nothing to go on with, or its text is gone or changed.
    """
    folder = Path(out)
    facts = read_facts(folder)
    if facts.get("status") != "training":
        raise LLMBertError(f"{folder} is finished; train again with another --out to go further")
    if tensorboard:
        check_watched(facts["family"], {})
    training = reopen(folder, facts, progress, stop)
    with tensorboard_of(folder, tensorboard) as training.watch:
        return carry_out(training, resume=(folder / CHECKPOINT).exists())


def reopen(
    folder: Path, facts: dict[str, Any], progress: Progress = silent, stop: Callable[[], bool] = lambda: False
) -> Training:
    """The training that a run folder tells of, with its text.

    Raises LLMBertError where the text is gone or changed.
    """
    chosen = find_family(facts["family"])
    store = open_store(beside(folder) / facts["corpus"])
    if store.fingerprint != facts["data"]["fingerprint"]:
        raise LLMBertError(f"the corpus at {store.folder} is not the one {folder} was training on; train again")
    if facts.get("part") and isinstance(store, Corpus):
        store = store.part(*facts["part"])
    model = checked(chosen.settings_class(), facts["settings"]["model"])
    training = checked(TrainingSettings, facts["settings"].get("training") or {})
    return Training(
        facts["family"],
        facts.get("objective") or "causal",
        folder,
        store,
        store.tokeniser,
        facts.get("vocabulary_size") or store.tokeniser.vocabulary_size,
        Plan(model, training),
        facts["seed"],
        facts,
        facts.get("base"),
        progress,
        stop,
    )


def read_store(objective: str, source: Source, root: Path, progress: Progress) -> Store:
    """The store an objective learns from, made or found again below `root`."""
    wanted = OBJECTIVES[objective]
    read = read_pair_corpus if wanted.reads == "pairs" else read_corpus
    return read(source, root, progress, wanted.special_tokens)


def _from_base(
    base: str | os.PathLike[str] | None,
    family: str,
    model_values: dict[str, Any],
    source: Source,
    preset: dict[str, Any] | None,
) -> tuple[dict[str, Any], Source, dict[str, Any] | None, int | None]:
    """A base's shape, tokeniser and vocabulary size in the place of those asked for; without a base what was asked.

    Raises UsageError where they contradict.
    """
    if base is None:
        return model_values, source, preset, None
    known = load(os.fspath(base))
    if known.family != family:
        raise UsageError(f"{base} is a {known.family}; give --family {known.family}, or a base that is a {family}")
    own = known.model.settings.model_dump()
    asked = checked(type(known.model.settings), own | model_values).model_dump()
    clash = [key for key in model_values if key != "dropout" and asked[key] != own[key]]
    if clash or preset is not None:
        raise UsageError(f"the shape is that of {base}; leave out {f'--set {clash[0]}' if clash else '--size'}")
    own_tokeniser = source.tokenizer in (USUAL_TOKENISER, str(known.folder))
    if not own_tokeniser or source.vocabulary_size is not None:
        over = "--tokenizer" if not own_tokeniser else "--set vocabulary_size"
        raise UsageError(f"the tokeniser is that of {base}; leave out {over}")
    return own | model_values, replace(source, tokenizer=str(known.folder)), None, known.model.vocabulary_size


def _check_room(objective: str, store: Store, held: int | None) -> int:
    """How many tokens the model has. held: those of its base, which its tokeniser must fit into."""
    needed, special = store.tokeniser.vocabulary_size, OBJECTIVES[objective].special_tokens
    if held is not None and needed > held:
        raise UsageError(
            f"learning by {objective} needs {len(special)} special tokens, and the base has room for "
            f"{held - needed + len(special)}; take a base that was trained so"
        )
    return held or needed


def _plan(
    family: str,
    objective: str,
    source: Source,
    store: Store,
    model_values: Mapping[str, Any],
    training_values: Mapping[str, Any],
    preset: Mapping[str, Any] | None,
    seconds: float | None,
    began: float,
    also_read: int,
) -> Plan:
    """What will be trained, within what of the budget reading the corpus has left; also_read: see `Asked`."""
    chosen = FAMILIES[family]
    if chosen.mixes:
        mixed = checked(chosen.settings_class(), {**(preset or {}), **model_values})
        check_members(mixed, training_values, store)
    if chosen.counts or chosen.mixes:
        return Plan(checked(chosen.settings_class(), {**(preset or {}), **model_values}), TrainingSettings())
    torch.manual_seed(training_values["seed"])
    later = 0.0
    if seconds is not None and isinstance(store, Corpus) and chosen.likelihood in ("exact", "bound"):
        later = seconds_of_baselines(store)
    left = None if seconds is None else max(0.3 * seconds, seconds - (time.monotonic() - began) - later)
    teach = OBJECTIVES[objective].teach
    train, valid = (part.target if isinstance(part, PairShard) else part for part in (store.train, store.valid))
    plan = plan_training(
        family,
        chosen,
        store.tokeniser.vocabulary_size,
        len(train.ids),
        len(valid.ids),
        shape_for(chosen, store, model_values, preset),
        training_values,
        preset,
        left,
        lambda model, plan: teach(model, store, plan, training_values["seed"]),
        partial(time_reading, store) if isinstance(store, Corpus) and chosen.likelihood != "none" else None,
        also_read,
        valid.documents,
    )
    if isinstance(store, Corpus):
        check_length(", ".join(source.data), len(train.ids), len(valid.ids), plan.model.context)
    return plan


def carry_out(training: Training, resume: bool = False) -> Run:
    """Learn, measure and write; run.json comes first, so that whatever is killed later can be gone on with."""
    out = training.out
    with telling_how_to_go_on(out), keeping_time(out, training.facts, training.began) as note_time:
        sweep(out)
        write_json(out / FACTS, training.facts)
        training.tokeniser.save(out)
        family = FAMILIES[training.family]
        forget_peak_memory()
        way = _count if family.counts else _mix if family.mixes else partial(_learn, resume=resume)
        if training.plan.training.noise and not family.mixes:
            way = _learn_privately
        model, learned = way(training)
        members = (read_facts(file.parent).get("peak_memory") for file in (out / MEMBERS).glob(f"*/{FACTS}"))
        learned["peak_memory"] = max(filter(None, (peak_memory(), *members)), default=None)
        return _finish(training, model, learned, note_time)


def _mix(training: Training) -> tuple[Any, dict[str, Any]]:
    """Train the members, each in a folder of its own within the run, and learn their weights on what was kept."""
    assert isinstance(training.store, Corpus) and training.store.kept is not None
    settings = training.plan.model
    parts = [None] if settings.shards == 1 else [(part, settings.shards) for part in range(settings.shards)]
    members: dict[str, tuple[str, Mapping[str, Any], tuple[int, int] | None]] = {}
    for family, values in parse_members(settings.members, settings.shards):
        for part in parts:
            members[family if family not in members else f"{family}-{len(members)}"] = (family, values, part)
    counted = {name: FAMILIES[family].counts for name, (family, *_) in members.items()}
    runs = {name: _member(training, name, *members[name], None) for name in members if counted[name]}
    budget, slow = training.facts["asked"]["seconds"], list(counted.values()).count(False)
    seconds = None
    if budget is not None and slow:
        ready = [run.model for run in runs.values()]
        seconds = member_seconds(budget, training.began, slow, ready, settings, training.store)
    runs |= {name: _member(training, name, *members[name], seconds) for name in members if not counted[name]}
    models, began = {name: runs[name].model for name in members}, time.monotonic()
    model, found = fit_mixture(models, settings, training.store.kept, training.progress)
    weighing, learned = time.monotonic() - began, [run.facts for run in runs.values()]
    seconds = weighing + sum(each["train_seconds"] for each in learned)  # also of members from before it was stopped
    tokens = sum(each["train_tokens"] for each in learned)
    return model, {
        "mixture": found,
        "train_seconds": seconds,
        "train_tokens": tokens,
        "tokens_per_second": tokens / max(seconds, 1e-9),
        "parameters": sum(each["parameters"] for each in learned),
    }


def _member(
    training: Training,
    name: str,
    family: str,
    values: Mapping[str, Any],
    part: tuple[int, int] | None,
    seconds: float | None,
) -> Run:
    """One member of a mixture, trained, gone on with, or found as it was left. part: which of how many parts of the
    text it learns from, None for all of it; seconds: its budget."""
    assert isinstance(training.store, Corpus)
    folder, asked, source = training.out / MEMBERS / name, training.facts["asked"], training.facts["source"]
    try:
        if (folder / FACTS).exists():
            done = run_status(folder) == "done"
            return load(folder) if done else resume(folder, progress=training.progress, stop=training.stop)
        wanted = Asked(
            family,
            source["data"],
            folder,
            lines=source["lines"],
            split_on=source["split_on"],
            fields=source["fields"],
            budget=seconds,
            settings=values if FAMILIES[family].counts else {**_usable(asked["training"], family), **values},
            seed=training.seed,
            language=training.facts["language"],
            store=training.store if part is None else training.store.part(*part),
            part=part,
            without=source.get("without") or (),
            also_read=read_again(training.store),
        )
        member = prepare(wanted, training.progress, time.monotonic())
        member.stop = training.stop
        with fresh_folder(member.out):
            return carry_out(member)
    except Interrupted as stopped:
        raise Interrupted(str(stopped).partition("; go on with")[0]) from None


def _usable(training_values: Mapping[str, Any], family: str) -> dict[str, Any]:
    """Of a mixture's settings those that a member makes use of."""
    return {key: value for key, value in training_values.items() if is_used(key, "causal", family)}


def _count(training: Training) -> tuple[Any, dict[str, Any]]:
    assert isinstance(training.store, Corpus)
    shard, t = training.store.train, training.tokeniser
    if isinstance(t, ForeignTokeniser):
        raise UsageError(
            f"n-grams are counted in the tokens of our own tokenisers; name one of {', '.join(TOKENISERS)}"
        )
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
        **count_privacy(training),
    }


def _learn_privately(training: Training) -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(training.seed)
    model = first_model(training)
    return model, learn_with_noise(training, model)


def _learn(training: Training, resume: bool) -> tuple[Any, dict[str, Any]]:
    """Gradient descent from random weights, from those of a base, or from the checkpoint."""
    if training.family == "gan" and isinstance(training.tokeniser, ForeignTokeniser):
        raise UsageError("a gan writes in the tokens of our own tokenisers; leave out the one from elsewhere")
    settings = training.plan.training
    torch.manual_seed(training.seed)
    model = first_model(training) if not resume else _random_model(training)
    lesson: Lesson = OBJECTIVES[training.objective].teach(model, training.store, training.plan, training.seed)
    if settings.preflight and not resume:
        case = case_of(training, lambda: model, taught=lesson)
        refuse_faults(case, training.progress, _preflight_seconds(training))
    every = settings.evaluate_every or max(1, settings.steps // 20)
    trainer = Trainer(
        model,
        lesson.objective,
        lesson.batches,
        settings.model_copy(update={"evaluate_every": every}),
        evaluate=lesson.evaluate,
        observe=lesson.observe,
        log=training.out / LOG,
        checkpoint=training.out / CHECKPOINT,
        progress=training.progress,
        stop=training.stop,
        watch=training.watch,
        deadline=None if keeps_its_steps(FAMILIES[training.family]) else training.plan.deadline,
    )
    if resume:
        trainer.resume()
    at = trainer.run()
    done = settings.model_copy(update={"steps": trainer.settings.steps})  # which a budget may have changed on the way
    training.facts["settings"]["training"] = done.model_dump()
    cut = {key: getattr(lesson.batches, key) for key in ("cut_sources", "cut_targets") if hasattr(lesson.batches, key)}
    return model, cut | {
        "train_seconds": at.seconds,
        "train_tokens": at.tokens,
        "tokens_per_second": at.tokens / max(at.seconds, 1e-9),
        "parameters": sum(w.numel() for w in model.parameters()),
        "steps": at.step,
        "stopped_early": at.stopped_early,
        "precision": resolve_precision(settings.precision, device().type),
        "valid_curve": at.valid,
    }


def first_model(training: Training) -> Any:
    """The model that a training begins with: random weights, or those of its base."""
    return _begun_with(training.base, training.plan.model) if training.base else _random_model(training)


def _random_model(training: Training) -> Any:
    return FAMILIES[training.family].build(training.plan.model, training.vocabulary_size).to(device())


def case_of(training: Training, make: Callable[[], Any], **known: Any) -> Case:
    """What is checked of a training. make: the model it begins with; known: see `Case`."""
    return Case(
        training.family,
        training.objective,
        training.store,
        training.plan,
        training.seed,
        training.vocabulary_size,
        make,
        begins_trained=training.base is not None,
        **known,
    )


def _preflight_seconds(training: Training) -> float:
    """How long the checks before a training may take: a twentieth of its budget, and never more than ten seconds."""
    budget = training.facts.get("budget")
    return PREFLIGHT_SECONDS if budget is None else min(PREFLIGHT_SECONDS, parse_duration(budget) / 20)


def _begun_with(base: str, settings: Any) -> Any:
    """The base's model, with the dropout of this training."""
    model = load(base).model
    for name, module in model.named_modules():
        if name.startswith("discriminator"):  # which has a dropout of its own
            continue
        if isinstance(module, torch.nn.Dropout):
            module.p = settings.dropout
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = settings.dropout
    model.settings = settings
    return model


def _finish(training: Training, model: Any, learned: dict[str, Any], note_time: Callable[[], None]) -> Run:
    """Measure the model on all held-out text, write everything, and only then call the run done."""
    out, facts = training.out, training.facts
    special = training.tokeniser.config_ids() if isinstance(training.tokeniser, ForeignTokeniser) else None
    if "mixture" in learned:
        special = {"members": list(learned["mixture"]["shares"])}
    save_model(out, model, special)
    run = Run(out, model, training.tokeniser, facts)
    facts |= learned
    facts |= measure_run(run, training.store, training.progress)
    facts["bytes_on_disk"] = run.bytes_on_disk
    note_time()
    facts["status"] = "done"
    write_run_page(run, training.store, training.progress)
    write_json(out / FACTS, facts)
    (out / CHECKPOINT).unlink(missing_ok=True)
    if beside(out).name != MEMBERS:
        told = {"family": training.family, "data": facts["data"]["fingerprint"]}
        note_done(note_trail, training.store.folder.parent, "train", out.name, **told)
    return load(out)
