"""A text or a run → a dossier: what models keep of what they read, and what helps against it."""

from llmbert.workbench.audit.audit import audit

__all__ = ["audit"]
