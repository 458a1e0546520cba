"""The checks before a training are worth what they catch: real bugs are put into the real code, one at a time.

Each bug is a change of a function's text. `docs/preflight.md` holds the same table, and the tests hold it to this one.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from planned import SHAPES, planned

from llmbert.workbench.preflight import CHECKS, run_checks
from llmbert.workbench.preflight.catalogue import EVERY

PAGE = Path(__file__).resolve().parents[2] / "docs" / "preflight.md"


@dataclass(frozen=True)
class Bug:
    """A bug: what it is, in which planned training, where, and which text of the function becomes which other one.

    caught: the checks that must fail; none: all must pass, so that the table says honestly what is missed.
    """

    what: str
    training: str
    where: str
    old: str
    new: str
    caught: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


GPT, GPT2, APART = "gpt", "gpt in GPT-2's style", "gpt, not tied"
SOFTENED = "gan of softened texts"
BATCHES, PAIRS = "llmbert.data.batches", "llmbert.data.pairs.batches:PairBatches"
LOOP, CACHE = "llmbert.training.loop:Trainer", "llmbert.nn.cache"
TRANSFORMER, BERT, VAE = "llmbert.models.transformer", "llmbert.models.bert", "llmbert.models.vae"
ATTENTION, POSITIONS = "llmbert.nn.attention", "llmbert.nn.positions"
OPTIMISERS, OBJECTIVES = "llmbert.training.optimisers", "llmbert.objectives"

BUGS = [
    # ---- masks and positions
    Bug("no causal mask", GPT, f"{ATTENTION}:SelfAttention.forward",
        "causal and mask is None and time > 1", "False", ("future", "cache")),
    Bug("causal mask of T5 off by one", "t5", f"{POSITIONS}:RelativePositions.forward",
        "distances > 0)", "distances > 1)", ("future", "cache")),
    Bug("causal mask within a document off by one", GPT, f"{ATTENTION}:document_mask",
        ".tril()", ".tril(1)", ("documents",)),
    Bug("no mask between documents", GPT, f"{ATTENTION}:document_mask", "same & causal", "causal", ("documents",)),
    Bug("positions run on through documents", GPT2, f"{POSITIONS}:document_positions",
        "index - torch.where(begins, index, 0).cummax(dim=1).values", "index", ("documents",)),
    Bug("batches do not mark documents", GPT, f"{BATCHES}:Windows._gather",
        "begins.cumsum(1) if many else None", "None", ("documents",)),
    # ---- targets
    Bug("targets not shifted", GPT, f"{BATCHES}:Windows._gather",
        "block[:, 1:].clone()", "block[:, :-1].clone()", ("labels",)),
    Bug("targets shifted by two", GPT, f"{BATCHES}:Windows._gather",
        "block[:, 1:].clone()", "block[:, 1:].roll(-1, 1)", ("labels",)),
    Bug("padding scored", "transformer", f"{PAIRS}.gather",
        "targets.masked_fill(~inside, IGNORED)", "targets.masked_fill(~inside, 0)", ("labels",)),
    Bug("end token never learned", "transformer", f"{PAIRS}.gather",
        "masked_fill(~inside, IGNORED)", "masked_fill(~inside | (targets == 3), IGNORED)", ("labels",)),
    Bug("source and target swapped", "transformer", f"{PAIRS}.__init__",
        "self.pairs, self.longest,", "pairs = replace(pairs, source=pairs.target, target=pairs.source)\n"
        "    self.pairs, self.longest,", ("labels",)),
    Bug("sources slip by one pair", "transformer", f"{PAIRS}.gather",
        "_block(self.pairs.source, rows", "_block(self.pairs.source, (rows + 1) % self.pairs.pairs", ("labels",)),
    Bug("BERT sees the tokens it is to guess", "bert", "llmbert.data.masking:Masking.apply",
        "np.where(hidden & (fate < self.masked), self.mask_id, ids)", "ids.copy()", ("labels",)),
    # ---- padding
    Bug("encoder and decoder look at padding", "transformer", f"{TRANSFORMER}:_open_mask",
        "None if bool(mask.all()) else mask[:, None, None]", "None", ("padding",)),
    Bug("BERT looks at padding", "bert", f"{BERT}:_allowed",
        "mask.bool()[:, None, None]", "None", ("padding",)),
    Bug("VAE reads padding", "vae", f"{OBJECTIVES}.elbo:evidence_lower_bound",
        "0), kept)", "0), torch.ones_like(kept))", ("padding",)),
    # ---- the cache
    Bug("positions of the cache one too far", GPT2, f"{CACHE}:KeyValueCache.positions",
        "torch.arange(tokens", "1 + torch.arange(tokens", ("cache",)),
    Bug("cache rows not chosen as asked", GPT, f"{CACHE}:KeyValueCache.select",
        "old[:, :, :end], 0, rows, out", "old[:, :, :end], 0, rows.sort().values, out", ("cache",)),
    Bug("lengths of joining rows in another order", GPT, f"{CACHE}:KeyValueCache.extend",
        "(self.lengths, other.lengths)", "(other.lengths, self.lengths)", ("cache",)),
    Bug("source does not move with its row", "transformer", f"{CACHE}:DecoderState.select",
        "self.sources[rows]", "self.sources[rows.flip(0)]", ("cache",)),
    Bug("recurrent memory does not move with its row", "gru", "llmbert.nn.recurrence:RecurrentState.select",
        "part[:, rows]", "part[:, rows.flip(0)]", ("cache",)),
    # ---- what the output depends on
    Bug("the source is ignored", "transformer", f"{TRANSFORMER}:Transformer._source",
        "return condition.source,", "return condition.source * 0,", ("condition", "gradients")),
    Bug("the encoder gets no gradient", "transformer", f"{TRANSFORMER}:Transformer._source",
        "return condition.source,", "return condition.source.detach(),", ("gradients",)),
    Bug("z is ignored", "vae", f"{VAE}:RecurrentReader.memory", "self.begin(z)", "self.begin(z * 0)", ("condition",)),
    Bug("the posterior is the same for all texts", "vae", f"{VAE}:VAE.infer",
        "self.inner.read(ids, mask)", "self.inner.read(ids, mask) * 0", ("latent", "gradients")),
    Bug("KL weight stays 0", "vae", f"{OBJECTIVES}.elbo:kl_weight",
        "return highest", "return 0 * highest", ("latent",)),
    # ---- adversaries
    Bug("real texts are judged as drawn ones are", "gan", f"{OBJECTIVES}.adversarial:_discriminate",
        "softplus(-real)", "softplus(real)", ("adversaries",)),
    Bug("the generator is rewarded for being found out", "gan", f"{OBJECTIVES}.adversarial:policy_loss",
        "return -(logarithms", "return (logarithms", ("adversaries",)),
    Bug("the discriminator learns in the generator's phase", SOFTENED, f"{OBJECTIVES}.adversarial:adversarial",
        "without_gradients(model.discriminator.parameters())", "torch.enable_grad()", ("adversaries",)),
    Bug("softened texts carry no gradient", SOFTENED, "llmbert.models.gan:GAN.soft_texts",
        "found.append(soft * alive)", "found.append((soft * alive).detach())", ("adversaries",)),
    Bug("a generator that writes its likeliest text alone", "gan", "llmbert.models.gan:GAN.go_on",
        "torch.multinomial(chances, 1)", "chances.argmax(-1, keepdim=True)", ("variety",)),
    # ---- loss and gradients
    Bug("loss averaged in each micro-batch", "transformer", f"{LOOP}.step",
        "value / counts[name] for name, (value, _)", "value / n / len(parts) for name, (value, n)",
        ("accumulation",), {"accumulate": 2}),
    Bug("a norm is left out", GPT, "llmbert.models.gpt:Block.forward", "self.attention_norm(x)", "x", ("gradients",)),
    Bug("the embedding learns by its head alone", GPT, "llmbert.models.gpt:GPT._run",
        "x = self.embedding(ids)", "x = self.embedding(ids).detach()", ("gradients",)),
    Bug("a gradient written by hand is wrong", GPT, f"{OBJECTIVES}.cross_entropy:_slope",
        "smoothing - 1)", "smoothing - 2)", ("gradients",)),
    Bug("sign of the gradient flipped", GPT, f"{LOOP}.step", ".sum().backward()", ".sum().neg().backward()",
        ("rate", "overfits")),
    Bug("logits in another order than trained", GPT, "llmbert.models.gpt:GPT.logits",
        ".float()", ".float().flip(-1)", ("loss", "cache")),
    Bug("scores of shifted targets", GPT, "llmbert.models.scoring:sliding_window_nats",
        "block[:, 1:].flatten()", "block[:, :-1].flatten()", ("loss",)),
    Bug("first weights far too large", GPT2, "llmbert.models.gpt:GPT._initialise",
        "std=0.02)", "std=1.0)", ("first loss",), {"tied": False}),
    Bug("head not tied", GPT, "llmbert.models.gpt:GPT.__init__", "self.head.weight = self.embedding.weight",
        "self.head.weight = nn.Parameter(self.embedding.weight.detach().clone())", ("ties",)),
    Bug("tied though not asked", APART, "llmbert.models.gpt:GPT.__init__", "if settings.tied:", "if True:", ("ties",)),
    Bug("dropout stays on in evaluation", GPT, f"{ATTENTION}:SelfAttention.forward",
        "self.dropout if self.training else 0.0", "self.dropout", ("evaluation",), {"dropout": 0.3}),
    Bug("held-out text measured with dropout", "transformer", "llmbert.workbench.lessons:mean_loss",
        "model.eval()", "pass", ("measuring",)),
    # ---- optimisers and rate
    Bug("an optimiser is not given gains and biases", GPT, f"{OPTIMISERS}:build_optimisers",
        "if w.dim() != 2 or id(w) in apart", "if id(w) in apart", ("optimisers",)),
    Bug("a weight in two optimisers", GPT, f"{OPTIMISERS}:build_optimisers",
        "if w.dim() == 2 and id(w) not in apart", "if w.dim() == 2", ("optimisers",)),
    Bug("no warm-up", "transformer", "llmbert.training.schedules:factor",
        "(step + 1) / warmup", "1.0", ("rate",), {"warmup": 20}),
    Bug("a rate a thousand times too high", GPT, "", "", "", ("rate",),
        {"learning_rate": 10, "matrix_learning_rate": 20, "clip_norm": "none", "schedule": "constant"}),
    # ---- memory, checkpoints, files
    Bug("memory carried into the next document", "gru", f"{LOOP}._split_memory",
        "self.memory is None or batch.fresh", "self.memory is None", ("memory",)),
    Bug("batches never say that a document begins", "gru", f"{BATCHES}:CarriedStreams._gather",
        "None, at == 0)", "None, False)", ("memory",)),
    Bug("checkpoint without the optimisers' state", GPT, f"{LOOP}.resume",
        "restore_optimisers(self.optimisers, dict(self.model.named_parameters()), tensors)", "pass", ("resuming",)),
    Bug("checkpoint without the random state", GPT, f"{LOOP}.resume",
        'torch.set_rng_state(tensors["random"])', "pass", ("resuming",)),
    Bug("resumed at the first batch", GPT, f"{LOOP}._learn",
        "self.batches.iterate(self.at.step)", "self.batches.iterate(0)", ("resuming",)),
    Bug("saved without the head", APART, "llmbert.runs.loading:save_model",
        "for n, t in tensors.items()}", "for n, t in tensors.items() if 'head' not in n}", ("saving",)),
    # ---- text
    Bug("the tokeniser loses capitals", GPT, "llmbert.text.tokenisers:Tokeniser.encode_joined",
        "self._encode(texts)", "self._encode([text.lower() for text in texts])", ("tokeniser",),
        {"vocabulary_size": 90}),
    Bug("almost everything is unknown", GPT, "llmbert.text.vocabulary:_most_frequent",
        "tokens[: vocabulary_size - len(SPECIAL_TOKENS)]", "tokens[:6]", ("tokeniser",), {"vocabulary_size": 91}),
    # ---- what no check sees
    Bug("every epoch in the same order", GPT, f"{BATCHES}:Windows.iterate", "(self.seed, epoch)", "(self.seed, 0)"),
    Bug("clipping lengthens short gradients", GPT, f"{LOOP}._clip", ".clamp_max(1.0)", ""),
    Bug("the rate never decays", GPT, "llmbert.training.schedules:warmup_stable_decay",
        "1.0 if progress < 1 - decay else", "1.0 if True else"),
    Bug("label smoothing is forgotten", "transformer", f"{OBJECTIVES}.seq2seq:sequence_to_sequence",
        "batch.targets[kept], label_smoothing)\n    return", "batch.targets[kept], 0.0)\n    return"),
    Bug("the second segment always follows", "bert", "llmbert.data.masking:SentencePairs._part",
        "random.random() < 0.5", "random.random() < 2"),
]  # fmt: skip


# ---- putting a bug in ----------------------------------------------------------------------------------------------


def function_at(where: str) -> FunctionType:
    """The function that "module:Class.name" names, without what decorates it."""
    module, _, path = where.partition(":")
    found: Any = import_module(module)
    for part in path.split("."):
        found = inspect.getattr_static(found, part)
    found = getattr(found, "__func__", getattr(found, "fget", found))
    return inspect.unwrap(found)


def changed_code(function: FunctionType, old: str, new: str) -> CodeType:
    """The code of a function with a change in its text."""
    text = textwrap.dedent(inspect.getsource(function))
    text = text[re.search(r"^def ", text, re.MULTILINE).start() :]  # type: ignore[union-attr]
    assert old in text, f"{function.__qualname__} no longer holds {old!r}: the bug must be written anew"
    # Inside a function that has a __class__, a method's super() finds it as in its class.
    made = f"def factory(__class__):\n{textwrap.indent(text.replace(old, new), '    ')}\n    return {function.__name__}"
    names: dict[str, Any] = dict(function.__globals__)
    exec(compile(made, f"<bug in {function.__name__}>", "exec", annotations.compiler_flag), names)
    code: CodeType = names["factory"](None).__code__
    assert code.co_freevars == function.__code__.co_freevars
    return code


def put_in(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everyone who holds the function has it changed."""
    if bug.where:
        function = function_at(bug.where)
        monkeypatch.setattr(function, "__code__", changed_code(function, bug.old, bug.new))


# ---- what is promised ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHAPES)
def test_a_clean_training_raises_no_alarm(name: str) -> None:
    results = run_checks(planned(name))
    assert [each.name for each in results] == list(CHECKS)
    assert [(each.name, each.said) for each in results if each.status == "failed"] == []
    applying = {check for check, known in CHECKS.items() if SHAPES[name][0] in known.families}
    assert {each.name for each in results if each.status == "ok"} == applying


def test_every_family_is_among_the_clean_trainings() -> None:
    assert {family for family, _ in SHAPES.values()} == set(EVERY)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.what)
def test_a_bug_is_caught(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in(bug, monkeypatch)
    results = run_checks(planned(bug.training, **bug.settings))
    found = {each.name: each.said for each in results if each.status == "failed"}
    assert set(bug.caught) <= set(found), found
    assert bug.caught or not found, f"this bug is caught now: write that down ({found})"


def test_nine_of_ten_bugs_are_caught_by_checks_of_every_kind() -> None:
    assert len([bug for bug in BUGS if bug.caught]) >= 0.9 * len(BUGS)
    assert set(CHECKS) - {check for bug in BUGS for check in bug.caught} <= {"overlap", "saving", "overfits"}


def test_the_page_has_the_same_table() -> None:
    rows = [f"| {bug.what} | {bug.training} | {', '.join(bug.caught) or '**missed**'} |" for bug in BUGS]
    page = PAGE.read_text("utf-8")
    start = page.index("| bug |")
    assert page[start:].split("\n\n")[0].splitlines()[2:] == rows
