"""What a score is, in one line that two reports can be compared by."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from llmbert.protocols import LLMBertError


def build_signature(metric: str, **parts: str | int | float) -> str:
    """`metric:nll|likelihood:exact|...|version:llmbert-0.1.0`: parts in the order given, then our version.

    In the manner of sacreBLEU (Post 2018, "A Call for Clarity in Reporting BLEU Scores"). Raises LLMBertError where a
    part holds "|", which separates parts.
    """
    named = {"metric": metric, **parts, "version": f"llmbert-{package_version()}"}
    for name, value in named.items():
        if "|" in str(value):
            raise LLMBertError(f'The signature part {name} is "{value}"; leave out the "|", which separates parts.')
    return "|".join(f"{name}:{value}" for name, value in named.items())


def package_version() -> str:
    """The installed version of this package; "unknown" where it runs from a bare source tree."""
    try:
        return version("llmbert")
    except PackageNotFoundError:
        return "unknown"
