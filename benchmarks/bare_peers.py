"""What peers take by themselves: each work in a process that loads nothing of ours.

python benchmarks/bare_peers.py WORK ARGUMENT ... prints seconds of the work and the most memory of the process as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from itertools import islice
from pathlib import Path

PROMPT = 32


def encode(text: str, tokeniser: str) -> None:
    """Lines through Hugging Face's tokenizers, nothing kept."""
    from tokenizers import Tokenizer

    encoder = Tokenizer.from_file(str(Path(tokeniser) / "tokenizer.json"))
    with Path(text).open(encoding="utf-8") as file:
        while batch := [line.rstrip("\n") for line in islice(file, 4000)]:
            encoder.encode_batch_fast(batch)


def write(folder: str, new: str) -> None:
    """Greedy tokens behind a prompt, by Transformers in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        model.generate(torch.arange(4, 4 + PROMPT)[None], max_new_tokens=int(new), do_sample=False, pad_token_id=0)


def peak() -> float:
    """The most memory of this process, MB; where the system does not say, that of the one that started it may count."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    began = time.perf_counter()
    {"encode": encode, "write": write}[sys.argv[1]](*sys.argv[2:])
    print(json.dumps({"seconds": time.perf_counter() - began, "megabytes": peak()}))
