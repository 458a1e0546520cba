"""How fast beside programs that are compiled for the purpose: CTranslate2 and llama.cpp, each where it is installed.

python benchmarks/peers.py [NAME ...] [--rounds 5] [--data FOLDER]        (make bench-peers installs both first)

The models have random weights and the peer gets them through its own converter, or as the GGUF file that we write. The
figures go where those of performance.py go.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

import performance
from llmbert.decoding import Engine, GenerationSettings, Request
from llmbert.models.compact import CompactGPT, CompactTransformer
from llmbert.runs import Run
from llmbert.text.tokenisers import train_tokeniser
from performance import END, GPT2_VOCABULARY, Missing, Options, Result, in_turn, rate

PROMPT, NEW = 32, 64  # tokens
LLAMA_KINDS = {"q8_0": ("int8", 1.1), "f16": ("bfloat16", 1.0), "f32": ("float32", 1.0)}  # theirs → ours, aim


def needed(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise Missing(f"{package} is not installed")


def ours(model: Any, prompts: list[list[int]]) -> Callable[[], int]:
    def work() -> int:
        engine = Engine(model, None, END, str, max_batch=len(prompts))
        settings = GenerationSettings(max_tokens=NEW, temperature=0.0)
        return sum(len(handle.tokens) for handle in engine.run(Request(each, settings) for each in prompts))

    return work


@contextmanager
def converted(model: Any, quantization: str | None) -> Iterator[Path]:
    """A folder of CTranslate2's, by its converter. Tokens are named by their numbers."""
    from ctranslate2.converters import TransformersConverter

    with tempfile.TemporaryDirectory() as folder:
        performance.write_named_export(model, Path(folder))
        config = json.loads((Path(folder) / "config.json").read_text("utf-8"))
        if config.get("is_encoder_decoder"):  # settings of before, which its converter still looks for
            (Path(folder) / "config.json").write_text(
                json.dumps(config | {"normalize_before": True, "normalize_embedding": False}), "utf-8"
            )
        out = Path(folder) / "converted"
        TransformersConverter(folder).convert(str(out), quantization=quantization)
        yield out


def ctranslate2_writing(streams: int, aim: float) -> Any:
    """GPT-2's shape in int8, greedy."""

    def measure(options: Options) -> list[Result]:
        needed("ctranslate2")
        import ctranslate2

        model = performance.gpt2_model()
        prompts = torch.randint(4, GPT2_VOCABULARY, (streams, PROMPT)).tolist()
        with converted(model, "int8") as folder:
            generator = ctranslate2.Generator(str(folder), intra_threads=torch.get_num_threads())
            words = [[str(token) for token in row] for row in prompts]

            def peer() -> int:
                made = generator.generate_batch(
                    words, max_length=NEW, min_length=NEW, sampling_topk=1, include_prompt_in_result=False
                )
                return sum(len(each.sequences_ids[0]) for each in made)

            compact = CompactGPT(copy.deepcopy(model), "int8")
            peers = {"CTranslate2, int8": (rate(peer), aim)}
            return in_turn(
                f"writing, {streams} at once, int8", "tokens/s", rate(ours(compact, prompts)), peers, options.rounds
            )

    return measure


def ctranslate2_translating(options: Options) -> list[Result]:
    """A Transformer of Multi30k's size, beam 5, 64 sentences at once."""
    needed("ctranslate2")
    import ctranslate2

    model, found = performance.translator(), list[Result]()
    sources = torch.randint(4, performance.WORDS, (performance.TRANSLATED, performance.SOURCE))
    words = [[str(token) for token in row] for row in sources.tolist()]
    for kind in ("float32", "int8"):
        with converted(model, kind) as folder:
            translator = ctranslate2.Translator(str(folder), intra_threads=torch.get_num_threads())

            def peer(translator: Any = translator) -> int:
                length = performance.TARGET
                translator.translate_batch(
                    words, beam_size=performance.BEAMS, max_decoding_length=length, min_decoding_length=length
                )
                return len(words)

            compact = CompactTransformer(copy.deepcopy(model), kind)  # type: ignore[arg-type]
            peers = {f"CTranslate2, {kind}": (rate(peer), 1.0)}
            name = f"translating, beam {performance.BEAMS}, {performance.TRANSLATED} at once, {kind}"
            ours = rate(performance.translation(compact, sources))
            found += in_turn(name, "sentences/s", ours, peers, options.rounds)
    return found


def llama_writing(options: Options) -> list[Result]:
    """GPT-2's shape, one stream, greedy: weights of one, two and four bytes."""
    needed("llama_cpp")
    from llama_cpp import Llama

    model, found = performance.gpt2_model(), list[Result]()
    text = ["To be, or not to be, that is the question."] * 100
    prompt = torch.randint(4, 250, (PROMPT,)).tolist()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokeniser = train_tokeniser("bpe", text, 300)
        tokeniser.save(folder)
        for theirs, (kind, aim) in LLAMA_KINDS.items():
            path = folder / f"{theirs}.gguf"
            Run(folder, model, tokeniser, {"family": "gpt"}).write_gguf(path, theirs)
            llama = Llama(str(path), n_ctx=256, n_threads=torch.get_num_threads(), verbose=False)

            def peer(llama: Any = llama) -> int:
                llama.reset()
                made = llama.generate(prompt, top_k=1, temp=0.0)
                return sum(1 for _, _ in zip(range(NEW), made, strict=False))

            compact = CompactGPT(copy.deepcopy(model), kind)  # type: ignore[arg-type]
            peers = {f"llama.cpp, {theirs}": (rate(peer), aim)}
            found += in_turn(
                f"writing, 1 at once, {kind}", "tokens/s", rate(ours(compact, [prompt])), peers, options.rounds
            )
    return found


LINES = {
    "llama-write-1": llama_writing,
    "ctranslate2-write-1": ctranslate2_writing(1, 1.0),
    "ctranslate2-write-8": ctranslate2_writing(8, 2.5),
    "ctranslate2-translate": ctranslate2_translating,
}

if __name__ == "__main__":
    performance.main(LINES, __doc__ or "")
