"""A comparison's figures → what to ship, and what would change that."""

from llmbert.workbench.advice.advise import compare_advice

__all__ = ["compare_advice"]
