"""Any figures a verb wants on its page: lines, points, steps and bars, each with its numbers as a table."""

from llmbert.report.figures.section import figure_names, figure_sections

__all__ = ["figure_names", "figure_sections"]
