"""What a model card says by task: its Hugging Face name, what it is for, how it is asked, its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Task of a run → what Hugging Face calls it.
PIPELINES = {
    "translate": "translation",
    "summarise": "summarization",
    "write": "text-generation",
    "chat": "text-generation",
    "classify": "text-classification",
    "multilabel": "text-classification",
    "regress": "text-classification",
    "tag": "token-classification",
    "embed": "sentence-similarity",
    "fill": "fill-mask",
    "generate": "text-generation",
    "source": "text2text-generation",
}
LABELLING = ("classify", "multilabel", "regress", "tag", "embed")
READS_SOURCE = ("transformer", "t5")  # families that write from a source, also where nobody said for what

# Metric → the name Hugging Face counts it under.
METRIC_TYPES = {
    **dict.fromkeys(("rouge1", "rouge2", "rougeL", "rougeLsum"), "rouge"),
    **dict.fromkeys(("macro-f1", "micro-f1", "span-f1", "span-f1-macro", "token-f1"), "f1"),
    **{"chrf++": "chrf", "nist": "nist_mt", "exact-match": "exact_match", "spearman": "spearmanr"},
}


@dataclass(frozen=True)
class Purpose:
    """What a run was trained to do. kind: a key of PIPELINES; pair: languages, "en-de"."""

    kind: str
    pair: str = ""

    @property
    def pipeline(self) -> str:
        return PIPELINES[self.kind]


def purposes(content: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Purpose]:
    """The tasks that the content names, the first that its figures are of; else what the likelihood tells."""
    named = [content.get("task")] if content.get("task") else []
    if not named:
        runs = {row.get("name") for row in rows}
        named = [row.get("task") or row.get("name") for row in content.get("metrics") or []]
        named = [name for name in named if name not in runs]  # a run may be called like a task
    found = list(dict.fromkeys(purpose for name in named if (purpose := purpose_of(name))))
    return found or [_unnamed(rows)]


def purpose_of(name: Any) -> Purpose | None:
    """ "translate en-de" → its purpose; None for what names no task."""
    kind, _, pair = str(name or "").partition(" ")
    return Purpose(kind, pair) if kind in PIPELINES else None


def _unnamed(rows: Sequence[Mapping[str, Any]]) -> Purpose:
    kinds = {row.get("likelihood") for row in rows}
    families = {str(row.get("family")) for row in rows}
    if kinds == {"pseudo"}:
        return Purpose("fill")
    sources = kinds == {"conditional"} or (bool(families) and families <= set(READS_SOURCE))
    return Purpose("source" if sources else "generate")


def intended_use(purpose: Purpose, families: str) -> str:
    """The paragraph on what the run is for."""
    what, uses, never = _USES.get(purpose.kind, _USES["labels" if purpose.kind in LABELLING else "generate"])
    of = f" (family: {families})" if families else ""
    return f"{what}{of}, trained on its owner's own text: for {uses}. Not for {never}."


_USES = {
    "generate": (
        "A generator of text",
        "drafts, completions, experiments and teaching where a person reads what it writes",
        "facts, advice or decisions about people",
    ),
    "source": (
        "A model that writes a text from another",
        "experiments and fine-tuning where a person reads what it writes",
        "facts, advice or decisions about people",
    ),
    "translate": (
        "A translator",
        "drafts of translations of text of the kind it was trained on, which a person who knows both languages reads",
        "contracts, medicine, safety or anything else where a mistake does harm",
    ),
    "summarise": (
        "A writer of summaries",
        "summaries of text of the kind it was trained on, beside which the source can be read",
        "uses where what a summary leaves out or adds does harm",
    ),
    "write": (
        "A writer of text from data",
        "sentences on records of the kind it was trained on, which are checked against the record",
        "records whose fields it has not seen in training",
    ),
    "chat": (
        "A partner in conversation",
        "talks of the kind it was trained on, with people who know that a machine answers",
        "facts, advice, decisions about people, or people in distress",
    ),
    "fill": (
        "An encoder of text",
        "filling gaps, and fine-tuning on labels",
        "writing text from left to right, or decisions about people",
    ),
    "labels": (
        "A model that labels text",
        "sorting and marking text of the kind it was trained on, its mistakes being counted in the figures below",
        "decisions about people that no person looks at",
    ),
}


def loading(found: Sequence[Purpose]) -> str:
    """The section on how the run is loaded and asked."""
    head = found[0]
    calls = "\n".join(_PYTHON.get(head.kind, _PYTHON["source" if _reads(head) else "generate"]))
    shell = "\n".join(dict.fromkeys(command for purpose in found if (command := _command(purpose))))
    parts = ["## How to load", "Where `FOLDER` is the folder this file lies in:", f"```python\n{calls}\n```"]
    return "\n\n".join([*parts, *([f"```sh\n{shell}\n```"] if shell else [])])


def _reads(purpose: Purpose) -> bool:
    return purpose.kind in ("translate", "summarise", "write", "source")


def _labelled(module: str, function: str, text: str) -> tuple[str, ...]:
    return (f"from llmbert.tasks.{module} import {function}", "", f'print({function}("FOLDER", ["{text}"]))')


_OPEN = ("import llmbert", "", 'run = llmbert.load("FOLDER")')
_PYTHON = {
    "generate": (*_OPEN, 'print(run.generate("..."))'),
    "source": (*_OPEN, 'print(run.generate(source="..."))'),
    "chat": (
        *("import llmbert", "from llmbert.tasks.chat import Conversation", ""),
        *('talk = Conversation(llmbert.load("FOLDER"))', 'talk.say("...")', "print(talk.reply().text)"),
    ),
    "fill": (*_OPEN, 'print(run.score("..."))'),
    "classify": _labelled("classify", "classify", "..."),
    "multilabel": _labelled("classify", "classify", "..."),
    "regress": _labelled("classify", "estimate", "..."),
    "embed": _labelled("classify", "embed", "..."),
    "tag": _labelled("tag", "tag", "..."),
}


def _command(purpose: Purpose) -> str:
    """The shell's way to ask; "" where there is none."""
    if purpose.kind == "translate":
        from_, _, to = purpose.pair.partition("-")
        return f'llmbert translate FOLDER {f"--from {from_} --to {to} " if from_ and to else ""}"..."'
    if purpose.kind in ("summarise", "write", "classify", "tag"):
        return f'llmbert {purpose.kind} FOLDER "..."'
    if purpose.kind == "multilabel":
        return 'llmbert classify FOLDER "..."'
    if purpose.kind == "chat":
        return "llmbert chat FOLDER"
    return {
        "generate": 'llmbert generate FOLDER --prompt "..."',
        "fill": "llmbert evaluate FOLDER --data FILE",
    }.get(purpose.kind, "")


def limits(purpose: Purpose) -> list[str]:
    """What the run cannot be relied on for, apart from what its figures tell."""
    if purpose.kind in LABELLING:
        return [
            "It knows only the labels it was trained on, and gives them to any text, fitting or not.",
            "Its weights may hold traces of the text it was trained on: share it as you would share the text.",
        ]
    first = "It knows only the text it was trained on, and writes what is likely there, true or not."
    if purpose.kind in ("translate", "summarise", "write"):
        first = "It may add what its source does not say, and leave out what it does."
    of = "that" if "that" not in first and "text" in first else "its training"
    return [
        first,
        f"It may repeat passages of {of} text word for word, private ones included: share it as you would share the "
        "text.",
    ]
