"""Which text a run learns from, and the store that is made of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from llmbert.data.corpus import Corpus, build_corpus, open_corpus
from llmbert.data.pairs import PairCorpus, Portion, build_pairs, open_pairs
from llmbert.data.pairs.read import ROLES
from llmbert.models import nearest
from llmbert.protocols import Progress, UsageError
from llmbert.runs.loading import open_tokeniser
from llmbert.text.tokenisers import TOKENISERS, Tokeniser

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Store = Corpus | PairCorpus
USUAL_TOKENISER = "bpe"
S = TypeVar("S", Corpus, PairCorpus)


@dataclass(frozen=True)
class Source:
    """Which text, and how it becomes documents or pairs, splits and tokens.

    mixture: several sets of pairs in the place of data, each {"data": …, "valid": …, "fields": …, "prefix": …,
    "task": "translate en-de"}.
    """

    data: list[str]
    valid: list[str] | None = None
    lines: bool = False
    split_on: str | None = None
    fields: dict[str, str] | None = None
    tokenizer: str = USUAL_TOKENISER
    vocabulary_size: int | None = None
    lowercase: bool = False
    detokenise: str | None = None
    mixture: list[dict[str, Any]] | None = None
    keep: bool = False  # a part of the training text, for the weights of a mixture of models
    without: list[str] | None = None  # ids of documents that are passed over
    valid_share: float | None = None  # of the documents that are held out; None: as `build_corpus` draws them
    kept_share: float | None = None  # of them that are kept, likewise

    @property
    def has_pairs(self) -> bool:
        """Whether pairs are asked for, by the fields or by a mixture."""
        return bool(self.mixture) or any(role in ROLES for role in self.fields or {})

    def portions(self) -> list[Portion]:
        """The sets of pairs. Raises UsageError for a mixture that is described wrongly."""
        if not self.mixture:
            valid = tuple(self.valid) if self.valid else None
            return [Portion(tuple(self.data), valid, self.fields)]
        return [_portion(number, part) for number, part in enumerate(self.mixture, 1)]


def _portion(number: int, part: Mapping[str, Any]) -> Portion:
    known = ("data", "valid", "fields", "prefix", "task")
    wrong = [key for key in part if key not in known]
    if wrong or not part.get("data"):
        what = f"there is no key {wrong[0]!r}" if wrong else "it names no data"
        raise UsageError(f"part {number} of the mixture is off: {what}; its keys are {', '.join(known)}")
    valid = part.get("valid")
    return Portion(
        tuple(path_list(part["data"])),
        tuple(path_list(valid)) if valid else None,
        part.get("fields"),
        str(part.get("prefix", "")),
    )


def path_list(data: Paths) -> list[str]:
    return [os.fspath(data)] if isinstance(data, str | os.PathLike) else [os.fspath(path) for path in data]


def beside(folder: Path) -> Path:
    """The folder that a run's folder lies in, also where the latter is "." or ends in ".."."""
    return folder.parent if folder.name not in ("", "..") else folder.resolve().parent


def given_tokeniser(name: str) -> Tokeniser | None:
    """The tokeniser of the folder `name`, a run or another's, or None where it names a kind.

    Raises UsageError where it is neither.
    """
    if name in TOKENISERS:
        return None
    if not Path(name).is_dir():
        raise UsageError(
            f"there is no tokeniser {name!r}{nearest(name, TOKENISERS)}; there are {', '.join(TOKENISERS)}, "
            f"or the folder of a run"
        )
    return open_tokeniser(Path(name))


def read_corpus(source: Source, root: Path, progress: Progress, special_tokens: Sequence[str] = ()) -> Corpus:
    """The store of a source's documents, made below `root` or found there again; where that fails, nothing is left."""

    def build(given: Tokeniser | None, folder: Path) -> Corpus:
        return build_corpus(
            source.data,
            folder,
            tokeniser=given,
            kind=given.kind if given else source.tokenizer,
            vocabulary_size=source.vocabulary_size,
            valid_paths=source.valid,
            lines=source.lines,
            split_on=source.split_on,
            fields=source.fields,
            keep=source.keep,
            special_tokens=special_tokens,
            without=source.without or (),
            valid_share=source.valid_share,
            kept_share=source.kept_share,
            progress=progress,
        )

    return _built(source, root, build)


def read_pair_corpus(source: Source, root: Path, progress: Progress, special_tokens: Sequence[str] = ()) -> PairCorpus:
    """The store of a source's pairs, made below `root` or found there again; where that fails, nothing is left."""

    def build(given: Tokeniser | None, folder: Path) -> PairCorpus:
        return build_pairs(
            source.portions(),
            folder,
            tokeniser=given,
            kind=given.kind if given else source.tokenizer,
            vocabulary_size=source.vocabulary_size,
            lowercase=source.lowercase,
            detokenise=source.detokenise,
            special_tokens=special_tokens,
            progress=progress,
        )

    return _built(source, root, build)


def _built(source: Source, root: Path, build: Callable[[Tokeniser | None, Path], S]) -> S:
    given = given_tokeniser(source.tokenizer)
    if given and source.vocabulary_size is not None:
        raise UsageError(f"the tokeniser of {source.tokenizer} has its vocabulary; leave out --set vocabulary_size")
    made = [folder for folder in (root / "corpora", root, *root.parents) if not folder.exists()]
    try:
        return build(given, root / "corpora")
    except BaseException:
        for folder in made:
            with suppress(OSError):  # is not there, or holds what is of others
                folder.rmdir()
        raise


def open_store(folder: Path) -> Store:
    """The store in a folder, of documents or of pairs. Raises LLMBertError where it is missing or damaged."""
    return open_pairs(folder) if (folder / "pairs.json").exists() else open_corpus(folder)
