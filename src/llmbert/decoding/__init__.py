"""Logits become ids and ids become text: greedy, sampling, beam search, in batches whose rows come and go."""

from llmbert.decoding.beam import Hypothesis, beam_search
from llmbert.decoding.conditions import split_condition, stack_conditions
from llmbert.decoding.drafts import Draft, LookupDraft, NGramDraft, Proposal
from llmbert.decoding.engine import Delta, Engine, FinishReason, Handle, Token
from llmbert.decoding.guided import Guide, Guided
from llmbert.decoding.processors import Context, Processor, WrittenPenalty, build_processors
from llmbert.decoding.settings import GenerationSettings, Request
from llmbert.decoding.streaming import StopFinder, TextStream, cut_at_stop
from llmbert.decoding.utf8 import ValidUtf8
from llmbert.decoding.watermark import GreenLists, Watermark

__all__ = [
    "Context",
    "Delta",
    "Draft",
    "Engine",
    "FinishReason",
    "GreenLists",
    "GenerationSettings",
    "Guide",
    "Guided",
    "Handle",
    "Hypothesis",
    "LookupDraft",
    "NGramDraft",
    "Processor",
    "Proposal",
    "Request",
    "StopFinder",
    "TextStream",
    "Token",
    "ValidUtf8",
    "Watermark",
    "WrittenPenalty",
    "beam_search",
    "build_processors",
    "cut_at_stop",
    "split_condition",
    "stack_conditions",
]
