"""Where each head of a Transformer looks while it reads a text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from llmbert.decoding.stepping import device_of, evaluating
from llmbert.nn.attention import CrossAttention, SelfAttention
from llmbert.protocols import UsageError
from llmbert.runs.representations import reach_of
from llmbert.runs.run import Run

MOST_TOKENS = 128  # of each side; a map of more cannot be read, and grows with the square


def attention_of(run: Run, text: str, target: str | None = None) -> dict[str, Any]:
    """The attention weights of one forward pass over a text, layer by layer and head by head.

    {"parts": [{"kind", "queries": tokens, "keys": tokens, "layers": [{"layer", "weights": (H, T, S)}]}]}: one part,
    "self", or of an encoder-decoder "encoder", "decoder", and "cross", from the target's tokens to the source's. Of a
    VAE's Transformer the looks at its latent variable are left out: what they look at has no text. target: what an
    encoder-decoder writes, "" for its first step. Each row of weights sums to 1.

    Raises UsageError for a model without attention, a text of more than MOST_TOKENS tokens or than the model reads, or
    a target not wanted.
    """
    if not any(isinstance(module, SelfAttention) for module in getattr(run.model, "modules", list)()):
        raise UsageError(f"{run.family} has no attention to show; take a gpt, bert, transformer or t5")
    if run.reads_source != (target is not None):
        raise UsageError(f"{run.family} {'writes a target; give one' if run.reads_source else 'has no target'}")
    source = run.encode_source(text) if run.reads_source else _read(run, text)
    written = run.document_ids(target)[:-1].tolist() if target is not None else []
    most = min(MOST_TOKENS, reach_of(run.model) or MOST_TOKENS)
    for ids in (source, written):
        if len(ids) > most:
            raise UsageError(f"the text has {len(ids)} tokens, and a map shows {most}; take a shorter one")
    with evaluating(run.model), _watched(run.model) as seen:
        ids = torch.tensor([source], device=device_of(run.model))
        if run.reads_source:
            run.model.logits(torch.tensor([written], device=ids.device), run.model.encode(ids))
        else:
            run.model.logits(ids)
    read, wrote = _texts(run, source), _texts(run, written)
    if not run.reads_source:
        return {"parts": [_part("self", read, read, [each for each in seen if each[0] != "cross"])]}
    return {
        "parts": [
            _part("encoder", read, read, [each for each in seen if each[0] == "encoder"]),
            _part("decoder", wrote, wrote, [each for each in seen if each[0] == "decoder"]),
            _part("cross", wrote, read, [each for each in seen if each[0] == "cross"]),
        ]
    }


def _read(run: Run, text: str) -> list[int]:
    """A text as the model was trained to read it: what sees both ways has its end too, what writes on has not."""
    ids: list[int] = run.document_ids(text).tolist()
    return ids if run.model.likelihood == "pseudo" else ids[:-1]


def _part(kind: str, queries: list[str], keys: list[str], seen: list[tuple[str, Tensor]]) -> dict[str, Any]:
    layers = [
        {"layer": layer, "weights": [[[round(w, 4) for w in row] for row in head] for head in weights[0].tolist()]}
        for layer, (_, weights) in enumerate(seen)
    ]
    return {"kind": kind, "queries": queries, "keys": keys, "layers": layers}


@contextmanager
def _watched(model: nn.Module) -> Iterator[list[tuple[str, Tensor]]]:
    """Weights (B, H, T, S) of every attention that computes within, in order, each with where it stands."""
    seen: list[tuple[str, Tensor]] = []

    def hook(kind: str) -> Any:
        def before(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            seen.append((kind, module.weights_of(*given, **named)))  # type: ignore[operator]

        return before

    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, SelfAttention | CrossAttention):
            kind = "cross" if isinstance(module, CrossAttention) else "encoder" if "encoder" in name else "decoder"
            hooks.append(module.register_forward_pre_hook(hook(kind), with_kwargs=True))
    try:
        yield seen
    finally:
        for each in hooks:
            each.remove()


def _texts(run: Run, ids: list[int]) -> list[str]:
    texts = run.tokeniser.token_texts()
    return [texts[token] if token < len(texts) else f"<{token}>" for token in ids]
