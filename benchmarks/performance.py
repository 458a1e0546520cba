"""How fast, each beside a peer that runs in turn with ours on the same machine: benchmarks/results.json.

python benchmarks/performance.py [NAME ...] [--nanogpt CHECKOUT] [--rounds 5] [--data FOLDER]

A line measures ours and its peer in alternating rounds and prints both medians, their spread and the ratio; what takes
minutes is run once, and says so. A peer that is not at hand (nanoGPT's checkout, a package, a text) is named and left
out; what it gave before stays on the page with its date. Weights are random where only speed is asked, and the same on
both sides. The same on a GPU: gpu.py.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import llmbert
from llmbert.data.batches import Batch
from llmbert.decoding import Engine, GenerationSettings, LookupDraft, NGramDraft, Request, beam_search, split_condition
from llmbert.models import find_family
from llmbert.models.compact import CompactGPT, CompactTransformer
from llmbert.models.huggingface import export_model
from llmbert.objectives.causal import causal
from llmbert.protocols import LLMBertError
from llmbert.runs import machine, versions
from llmbert.runs.machine import peak_memory
from llmbert.training.loop import Trainer
from llmbert.training.precision import resolve_precision
from llmbert.training.settings import TrainingSettings

RESULTS = Path(__file__).with_name("results.json")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
HEAD = """# How fast

Ours and a peer in alternating rounds on the same machine: medians, and the least and greatest of the rounds; a figure
with no spread is of one run.
`make bench` and `make bench-peers` write this page; a line keeps its date, machine and versions until it is run again.
The ratio is ours to the peer's, and where less is better (MB, perplexity, waiting) the peer's to ours.
What the profile of a line shows that misses its aim stands in [profiles.md](profiles.md).

| what | ours | peer | ratio | aim | unit | when and where |
|---|---|---|---|---|---|---|
"""
BEGIN, END = 2, 3
PAUSE = 0.5  # seconds: threads of one program look out for work for a while, and would take the other's time
GPT2_SHAPE = {"layers": 12, "width": 768, "heads": 12, "context": 1024}
GPT2_VOCABULARY = 50_257


@dataclass(frozen=True)
class Result:
    """A comparison. unit: of the values, where more is better, or less; aim: the ratio to reach, ours to the peer's or
    where less is better the peer's to ours."""

    name: str
    unit: str
    ours: float
    ours_spread: tuple[float, float]
    peer: str
    theirs: float
    theirs_spread: tuple[float, float]
    aim: float
    less: bool = False

    @property
    def ratio(self) -> float:
        return self.theirs / self.ours if self.less else self.ours / self.theirs


class Missing(Exception):
    """A peer is not at hand."""


@dataclass(frozen=True)
class Options:
    data: Path
    nanogpt: Path | None
    rounds: int


Timed = Callable[[], float]
"""Does some work once and returns how much of it was done in a second."""


def in_turn(name: str, unit: str, ours: Timed, peers: dict[str, tuple[Timed, float]], rounds: int) -> list[Result]:
    """Ours and each peer (with the ratio to reach), in alternating rounds after one that does not count; a single round
    counts."""
    for run in (ours, *(run for run, _ in peers.values())) if rounds > 1 else ():
        run()
    found: dict[str, list[float]] = {"": []} | {peer: [] for peer in peers}
    for _ in range(rounds):
        found[""].append(ours())
        for peer, (run, _) in peers.items():
            found[peer].append(run())
    middle = {peer: statistics.median(values) for peer, values in found.items()}
    spread = {peer: (min(values), max(values)) for peer, values in found.items()}
    return [
        Result(name, unit, middle[""], spread[""], peer, middle[peer], spread[peer], aim)
        for peer, (_, aim) in peers.items()
    ]


def rate(work: Callable[[], float]) -> Timed:
    """Units a second of a work that returns how many it did; a GPU is waited for."""

    def run() -> float:
        time.sleep(PAUSE)
        started = time.perf_counter()
        done = work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return done / (time.perf_counter() - started)

    return run


def alone(work: Callable[..., Any], *arguments: str) -> None:
    """Do a work in this process, and print how long it took and the most memory the process ever had."""
    began = time.perf_counter()
    work(*arguments)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "megabytes": (peak_memory() or 0) / 1e6}))


def measured(script: str, *arguments: str) -> dict[str, float]:
    """Seconds and megabytes of a script's work that is done `alone`, in a process of its own."""
    said = subprocess.run([sys.executable, script, "alone", *arguments], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(said.stdout.splitlines()[-1])
    return found


def bare(*arguments: str) -> dict[str, float]:
    """The same of a work of bare_peers.py, whose process loads nothing of ours."""
    script = Path(__file__).with_name("bare_peers.py")
    said = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(said.stdout.splitlines()[-1])
    return found


# ---- training ------------------------------------------------------------------------------------------------------


def training(name: str, shape: dict[str, int], vocabulary: int, batch: int, steps: int, aims: dict[str, float]) -> Any:
    """One architecture (GPT-2's) and batch: our loop as it stands beside Transformers' and nanoGPT's models."""

    def measure(options: Options) -> list[Result]:
        context = shape["context"]
        torch.manual_seed(0)
        ids = torch.randint(4, vocabulary, (steps, batch, context + 1))
        tokens = steps * batch * context
        family = find_family("gpt")
        plain = {"qkv_bias": False, "out_bias": False, "feedforward_bias": False}  # as nanoGPT trains it
        settings = family.settings_class()(style="gpt2", **shape, **plain)
        trainer = Trainer(
            family.build(settings, vocabulary).train(),
            causal,
            None,  # type: ignore[arg-type]
            TrainingSettings(optimiser="adamw", steps=10_000, learning_rate=1e-4),
        )

        def ours() -> int:
            for rows in ids:
                trainer.step(Batch(rows[:, :-1], rows[:, 1:].clone()))
            return tokens

        peers = {"Transformers, float32": (rate(_hugging_face(shape, vocabulary, ids)), aims["transformers"])}
        try:
            peers["nanoGPT, float32"] = (rate(_nanogpt(options, shape, vocabulary, ids, False)), aims["float32"])
            peers["nanoGPT, bfloat16"] = (rate(_nanogpt(options, shape, vocabulary, ids, True)), aims["bfloat16"])
        except Missing as missing:
            print(f"  left out: {missing}")
        kind = resolve_precision("auto", "cpu")  # which is what it takes by itself here
        return in_turn(f"{name}, ours in {kind}", "tokens/s", rate(ours), peers, options.rounds)

    return measure


def _loop(model: Any, loss: Callable[[torch.Tensor], torch.Tensor], ids: torch.Tensor, bfloat16: bool) -> Any:
    """The plain training loop of a peer's model."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def work() -> int:
        for rows in ids:
            optimiser.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                value = loss(rows)
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
        return ids.shape[0] * ids.shape[1] * (ids.shape[2] - 1)

    return work


def _hugging_face(shape: dict[str, int], vocabulary: int, ids: torch.Tensor) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=vocabulary, n_positions=shape["context"], n_embd=shape["width"], n_layer=shape["layers"],
        n_head=shape["heads"], resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).train()

    def loss(rows: torch.Tensor) -> torch.Tensor:
        logits = model(rows[:, :-1]).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())

    return _loop(model, loss, ids, False)


def _nanogpt(options: Options, shape: dict[str, int], vocabulary: int, ids: torch.Tensor, bfloat16: bool) -> Any:
    model = nanogpt_model(options, shape, vocabulary)
    return _loop(model, lambda rows: model(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())[1], ids, bfloat16)


def nanogpt_model(options: Options, shape: dict[str, int], vocabulary: int) -> Any:
    if options.nanogpt is None or not (options.nanogpt / "model.py").exists():
        raise Missing("nanoGPT: give its checkout with --nanogpt")
    spec = importlib.util.spec_from_file_location("nanogpt_model", options.nanogpt / "model.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    config = module.GPTConfig(
        block_size=shape["context"], vocab_size=vocabulary, n_layer=shape["layers"], n_head=shape["heads"],
        n_embd=shape["width"], dropout=0.0, bias=False,
    )  # fmt: skip
    return module.GPT(config).train()


# ---- writing -------------------------------------------------------------------------------------------------------


def gpt2_model() -> Any:
    """A GPT of GPT-2's smallest shape, with random weights."""
    torch.manual_seed(0)
    family = find_family("gpt")
    return family.build(family.settings_class()(style="gpt2", **GPT2_SHAPE), GPT2_VOCABULARY).eval()


def writing(streams: int, device: str = "cpu") -> Any:
    """Greedy tokens/s of GPT-2's shape, a prompt of 32 tokens and 64 new ones, beside Transformers' `generate`: with
    weights of one, two and four bytes, and on a GPU in bfloat16."""

    def measure(options: Options) -> list[Result]:
        from transformers import AutoModelForCausalLM

        if device == "cuda" and not torch.cuda.is_available():
            raise Missing("there is no GPU")
        model = gpt2_model()
        prompts = torch.randint(4, GPT2_VOCABULARY, (streams, 32))
        new, found = 64, list[Result]()

        def ours(model: Any) -> int:
            engine = Engine(model, None, END, str, max_batch=streams)
            settings = GenerationSettings(max_tokens=new, temperature=0.0)
            return sum(len(h.tokens) for h in engine.run(Request(row, settings) for row in prompts.tolist()))

        with tempfile.TemporaryDirectory() as folder:
            _write_export(model, Path(folder))

            def peer(kind: torch.dtype) -> Timed:
                theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=kind).to(device).eval()

                def work() -> int:
                    with torch.inference_mode():
                        made = theirs.generate(
                            prompts.to(device), max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0
                        )
                    return int(made.shape[0] * (made.shape[1] - prompts.shape[1]))

                return rate(work)

            if device == "cuda":
                model.to(device, torch.bfloat16)
                peers = {"Transformers, bfloat16": (peer(torch.bfloat16), 1.0)}
                return in_turn(
                    f"writing on a GPU, {streams} at once", "tokens/s", rate(lambda: ours(model)), peers, options.rounds
                )
            for kind, theirs, aim in (
                ("int8", "float32", 7.0),
                ("bfloat16", "bfloat16", 1.0),
                ("float32", "float32", 1.0),
            ):
                compact = CompactGPT(copy.deepcopy(model), kind)  # type: ignore[arg-type]
                peers = {f"Transformers, {theirs}": (peer(getattr(torch, theirs)), aim)}
                name = f"writing, {streams} at once, {kind}"
                found += in_turn(name, "tokens/s", rate(lambda compact=compact: ours(compact)), peers, options.rounds)
                if streams == 1:
                    found.append(_share_of_reading(f"{name}, weights read", compact, options.rounds))
        return found

    return measure


def _share_of_reading(name: str, model: Any, rounds: int) -> Result:
    """GB/s of weights that single steps read, beside what torch reads of memory when it does nothing else."""
    buffers = {id(each): each for each in [*model.buffers(), *model.parameters()]}.values()
    size = sum(each.numel() * each.element_size() for each in buffers) / 1e9
    block = torch.ones(1 << 26)

    def steps(times: int = 40) -> float:
        state, ids = model.start(1), torch.zeros(1, 1, dtype=torch.int64)
        for _ in range(times):
            _, state = model.step(ids, state)
        return times * size

    def reading(times: int = 8) -> float:
        for _ in range(times):
            block.sum()
        return times * block.numel() * block.element_size() / 1e9

    with torch.inference_mode():
        return in_turn(name, "GB/s", rate(steps), {"memory": (rate(reading), 0.0)}, rounds)[0]


def _write_export(model: Any, folder: Path) -> None:
    config, tensors = export_model(model)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    save_file(dict(tensors), folder / "model.safetensors", {"format": "pt"})


def write_named_export(model: Any, folder: Path) -> None:
    """The same with a tokeniser that names each token by its number."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    names = {str(number): number for number in range(model.vocabulary_size)}
    special = {"bos_token": str(BEGIN), "eos_token": str(END), "unk_token": "1", "pad_token": "0"}
    words = Tokenizer(models.WordLevel(names, unk_token="1"))
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    _write_export(model, folder)


def drafting(options: Options) -> list[Result]:
    """A small GPT of characters with an n-gram that guesses ahead, beside itself without: greedy, then drawn."""
    found: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        text = [options.data / "tinyshakespeare/train.txt.gz"]
        common: dict[str, Any] = {"valid": [options.data / "tinyshakespeare/valid.txt.gz"], "tokenizer": "chars"}
        gpt = llmbert.train("gpt", text, Path(folder) / "gpt", budget="3m", **common)
        ngram = llmbert.train("ngram", text, Path(folder) / "ngram", settings={"order": 7}, **common)
        never = (0, 1, BEGIN)
        drafts = {
            "a 7-gram": lambda: NGramDraft(ngram.model, 7, BEGIN, never),
            "lookup": lambda: LookupDraft(longest=8, shortest=4),
        }
        for temperature in (0.0, 0.8):
            for name, make in drafts.items():

                def write(make: Any, temperature: float = temperature) -> int:
                    engine = gpt.engine()
                    engine.draft = make and make()  # which remembers nothing of the round before
                    settings = GenerationSettings(max_tokens=400, temperature=temperature, seed=1)
                    requests = [Request(gpt.tokeniser.encode(p).tolist(), settings) for p in ("ROMEO:\n", "The king")]
                    return sum(len(next(engine.run([each])).tokens) for each in requests)

                found += in_turn(
                    f"drafts by {name}, temperature {temperature:g}",
                    "tokens/s",
                    rate(lambda make=make, write=write: write(make)),
                    {"without": (rate(lambda write=write: write(None)), 1.6)},
                    options.rounds,
                )
    return found


TRANSLATED, SOURCE, TARGET, BEAMS, WORDS = 64, 16, 24, 5, 10_000  # sentences, tokens each, of a vocabulary


def translator() -> Any:
    """A Transformer of Multi30k's size whose texts are as long as they may be."""
    torch.manual_seed(0)
    family = find_family("transformer")
    shape = {"layers": 4, "width": 128, "heads": 4, "inner": 256, "context": 128}
    model = family.build(family.settings_class()(**shape), WORDS).eval()
    with torch.no_grad():
        model.head.bias[END] = -1e9
    return model


def translation(model: Any, sources: torch.Tensor) -> Callable[[], int]:
    """Sentences translated at once, beam 5."""
    settings = GenerationSettings(max_tokens=TARGET, temperature=0.0, beams=BEAMS)

    def work() -> int:
        with torch.inference_mode():
            encoded = model.encode(sources)
        requests = [Request([], settings, condition) for condition in split_condition(encoded)]
        beam_search(model, requests, begin_id=BEGIN, end_id=END, padding_id=0, unknown_id=1, decode=str)
        return len(sources)

    return work


def translating(options: Options) -> list[Result]:
    """Beam 5, 64 sentences at once, beside Transformers' `generate`: in torch, and by native steps."""
    from transformers import AutoModelForSeq2SeqLM

    model, sources = translator(), torch.randint(4, WORDS, (TRANSLATED, SOURCE))
    with tempfile.TemporaryDirectory() as folder:
        _write_export(model, Path(folder))
        theirs = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()

    def peer() -> int:
        with torch.inference_mode():
            theirs.generate(sources, num_beams=BEAMS, max_new_tokens=TARGET, min_new_tokens=TARGET)
        return len(sources)

    peers, found = {"Transformers, float32": (rate(peer), 3.0)}, list[Result]()
    ways: dict[str, Any] = {"torch": model}
    ways |= {kind: CompactTransformer(copy.deepcopy(model), kind) for kind in ("float32", "int8")}  # type: ignore[arg-type]
    for kind, own in ways.items():
        name = f"translating, beam {BEAMS}, {TRANSLATED} at once, {kind}"
        found += in_turn(name, "sentences/s", rate(translation(own, sources)), peers, options.rounds)
    return found


def prefixes(options: Options) -> list[Result]:
    """Sixteen questions behind one system text of 400 tokens, beside the same without the kept prefix."""
    torch.manual_seed(0)
    family = find_family("gpt")
    model = family.build(family.settings_class()(layers=6, width=384, heads=6, context=512), 5000).eval()
    system = torch.randint(4, 5000, (400,)).tolist()
    questions = [system + torch.randint(4, 5000, (12,)).tolist() for _ in range(16)]
    settings = GenerationSettings(max_tokens=8, temperature=0.0)

    def ask(kept: int) -> int:
        engine = Engine(model, BEGIN, END, str, padding_id=0, unknown_id=1, prefixes=kept)
        for question in questions:
            next(engine.run([Request(question, settings)]))
        return len(questions)

    return in_turn(
        "a shared system text",
        "answers/s",
        rate(lambda: ask(2)),
        {"taken in each time": (rate(lambda: ask(0)), 1.0)},
        options.rounds,
    )


NANOGPT_SHAPE = {"layers": 4, "width": 128, "heads": 4, "context": 64}
GPU_SHAPE = {"layers": 6, "width": 384, "heads": 6, "context": 256}
AIMS = {"transformers": 2.2, "float32": 2.2, "bfloat16": 1.15}

LINES: dict[str, Callable[[Options], list[Result]]] = {
    "train-small": training("training, 0.8M parameters, 12 x 64", NANOGPT_SHAPE, 65, 12, 40, AIMS),
    "train-10M": training("training, 10.7M parameters, 8 x 256", GPU_SHAPE, 65, 8, 2, AIMS),
    "write-1": writing(1),
    "write-8": writing(8),
    "drafts": drafting,
    "translate": translating,
    "prefixes": prefixes,
}


def rows(results: list[Result]) -> Iterator[str]:
    for r in results:
        mark = "reached" if r.ratio >= r.aim else "MISSED"
        yield (
            f"{r.name:<42} ours {r.ours:9,.2f} ({r.ours_spread[0]:,.2f} to {r.ours_spread[1]:,.2f})  {r.peer} "
            f"{r.theirs:9,.2f} ({r.theirs_spread[0]:,.2f} to {r.theirs_spread[1]:,.2f}) {r.unit}  "
            f"ratio {r.ratio:.2f} (aim {r.aim:g}) {mark}"
        )


def write_page(known: dict[str, Any]) -> None:
    """The page of all lines that were ever run here."""

    def value(middle: float, spread: list[float]) -> str:
        digits = sum(middle < limit for limit in (100, 10, 1))
        around = "" if spread[0] == spread[1] else f" ({spread[0]:,.{digits}f} to {spread[1]:,.{digits}f})"
        return f"{middle:,.{digits}f}{around}"

    def aim(ratio: float) -> str:
        return f"{ratio:.3g}" if ratio else "–"

    lines = [
        f"| {r['name']} | {value(r['ours'], r['ours_spread'])} | {r['peer']}: {value(r['theirs'], r['theirs_spread'])} "
        f"| {r['ratio']:.2f}{'' if r['ratio'] >= r['aim'] else ' **missed**'} | {aim(r['aim'])} | {r['unit']} "
        f"| {r.get('date', line['date'])}, {r.get('machine', line['machine'])} |"
        for line in known.values()
        for r in line["results"]
    ]
    PAGE.write_text(HEAD + "\n".join(lines) + "\n", "utf-8")


def main(lines: dict[str, Callable[[Options], list[Result]]], description: str) -> None:
    options = argparse.ArgumentParser(description=description.split("\n")[0])
    options.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(lines)}")
    options.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    options.add_argument("--nanogpt", type=Path, metavar="CHECKOUT", help="a checkout of nanoGPT")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--out", type=Path, default=RESULTS, help="JSON that the figures are put into")
    options.add_argument("--no-page", action="store_true", help="leave docs/performance.md as it is")
    chosen = options.parse_args()
    if unknown := [name for name in chosen.names if name not in lines]:
        options.error(f"there is no line {unknown[0]!r}; there are {', '.join(lines)}")
    asked = Options(chosen.data, chosen.nanogpt, chosen.rounds)
    print(machine())
    known = json.loads(chosen.out.read_text("utf-8")) if chosen.out.exists() else {}
    for name in chosen.names or lines:
        try:
            results = lines[name](asked)
        except (Missing, ImportError, OSError, LLMBertError) as missing:
            print(f"{name}: left out, {missing}")
            continue
        print("\n".join(rows(results)), flush=True)
        known[name] = {
            "date": date.today().isoformat(),
            "machine": machine(),
            "versions": versions(),
            "results": [asdict(r) | {"ratio": r.ratio} for r in results] + _not_run(known.get(name), results),
        }
        chosen.out.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", "utf-8")
        if chosen.out.resolve() == RESULTS and not chosen.no_page:
            write_page(known)


def _not_run(before: dict[str, Any] | None, results: list[Result]) -> list[dict[str, Any]]:
    """What peers gave before that were not at hand this time, each with its date and machine."""
    peers = {r.peer for r in results}
    then = {key: (before or {}).get(key) for key in ("date", "machine")}
    known = (before or {}).get("results", [])
    return [then | r for r in known if r["peer"] not in peers and r["peer"].startswith("nanoGPT")]


if __name__ == "__main__":
    main(LINES, __doc__ or "")
