"""How fast on a GPU: training beside nanoGPT, writing beside Transformers: benchmarks/results.json.

python benchmarks/gpu.py [NAME ...] --nanogpt CHECKOUT

Without a GPU every line is left out.
"""

from __future__ import annotations

import statistics

import torch

import performance
from llmbert.data.batches import Batch
from llmbert.models import find_family
from llmbert.objectives.causal import causal
from llmbert.training.compilation import compiled_layers
from llmbert.training.loop import Trainer
from llmbert.training.settings import TrainingSettings
from performance import GPT2_SHAPE, Missing, Options, Result, in_turn, nanogpt_model, rate, writing

GPU_BATCH, GPU_STEPS, GPU_VOCABULARY = 32, 10, 50_304  # rows of a step, steps of a round, nanoGPT's padded vocabulary


def gpu_training(options: Options) -> list[Result]:
    """GPT-2's smallest shape in bfloat16: our loop with compiled layers beside nanoGPT, compiled as a whole; and how
    much of what the chip does in one large product that is."""
    if not torch.cuda.is_available():
        raise Missing("there is no GPU")
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")  # as nanoGPT sets it
    context = GPT2_SHAPE["context"]
    ids = torch.randint(4, GPU_VOCABULARY, (GPU_STEPS, GPU_BATCH, context + 1))
    tokens = GPU_STEPS * GPU_BATCH * context
    family = find_family("gpt")
    plain = {"qkv_bias": False, "out_bias": False, "feedforward_bias": False}  # as nanoGPT trains it
    settings = family.settings_class()(style="gpt2", **GPT2_SHAPE, **plain)
    model = family.build(settings, GPU_VOCABULARY).cuda().train()
    learning = TrainingSettings(
        optimiser="adamw", steps=10_000, learning_rate=1e-4, weight_decay=0.1, precision="bfloat16"
    )
    trainer = Trainer(model, causal, None, learning)  # type: ignore[arg-type]

    def ours() -> int:
        for rows in ids:
            trainer.step(Batch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous()))
        return tokens

    theirs = nanogpt_model(options, GPT2_SHAPE, GPU_VOCABULARY).cuda()
    optimiser = theirs.configure_optimizers(0.1, 1e-4, (0.9, 0.95), "cuda")
    compiled = torch.compile(theirs)

    def peer() -> int:
        for rows in ids:
            inputs, targets = (
                part.contiguous().pin_memory().to("cuda", non_blocking=True) for part in (rows[:, :-1], rows[:, 1:])
            )
            with torch.autocast("cuda", torch.bfloat16):
                _, loss = compiled(inputs, targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        return tokens

    name = f"training on a GPU, 124M parameters, {GPU_BATCH} x {context}"
    with compiled_layers(model, True):
        found = in_turn(name, "tokens/s", rate(ours), {"nanoGPT, compiled": (rate(peer), 1.2)}, options.rounds)
    factors = tuple(torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    products = [rate(lambda: _products(*factors))() / 1e12 for _ in range(options.rounds)]
    # nanoGPT's own count (PaLM, appendix B): 6 a weight and 12 · layers · width · context, for each token.
    weights = sum(w.numel() for w in model.parameters()) - model.position_embedding.weight.numel()
    each = 6 * weights + 12 * GPT2_SHAPE["layers"] * GPT2_SHAPE["width"] * context
    reached = [each * value / 1e12 for value in (found[0].ours, *found[0].ours_spread)]
    middle, spread = statistics.median(products), (min(products), max(products))
    least, most = reached[1:]
    peak = Result("the same, share of the chip", "TFLOP/s", reached[0], (least, most), "a product", middle, spread, 0.5)
    return [*found, peak]


def _products(a: torch.Tensor, b: torch.Tensor, times: int = 20) -> int:
    """Products of square matrices; the operations done."""
    for _ in range(times):
        a @ b
    return 2 * times * len(a) ** 3


LINES = {"gpu-train": gpu_training, "gpu-write-1": writing(1, "cuda"), "gpu-write-64": writing(64, "cuda")}

if __name__ == "__main__":
    performance.main(LINES, __doc__ or "")
