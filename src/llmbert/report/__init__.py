"""Scores, curves and samples → one page a browser opens offline, and a run's figures → its model card."""

from llmbert.report.card import write_card
from llmbert.report.page import write_report

__all__ = ["write_card", "write_report"]
