"""A text or a run → a dossier: what models keep of what they read, and what helps against it."""

from llmbert.workbench.audit.audit import audit
from llmbert.workbench.audit.of_run import audit_run

__all__ = ["audit", "audit_run"]
