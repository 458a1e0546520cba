"""model, text and plan → what would silently spoil a training, in a sentence each."""

from llmbert.workbench.preflight.case import Case, Outcome, failed, passed, skipped
from llmbert.workbench.preflight.catalogue import CHECKS, Check, Result, refuse_faults, run_checks

__all__ = ["CHECKS", "Case", "Check", "Outcome", "Result", "failed", "passed", "refuse_faults", "run_checks", "skipped"]
