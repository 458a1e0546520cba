"""Which words two texts are compared by: tokenisers, stemmers, and scripts that are written without spaces."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

from llmbert.protocols import LLMBertError, UsageError

Synonyms = Mapping[str, Collection[str]]

TOKENISERS = {
    "13a": "mteval-v13a, for languages written with spaces",
    "intl": "mteval-v14, splits at every punctuation mark and symbol of Unicode",
    "zh": "a token for each Chinese character, 13a for the rest",
    "char": "a token for each character",
    "none": "the text is tokenised already: split at spaces",
    "tok": "tokenised already, lower-cased, and BLEU without smoothing: the figure of multi-bleu.perl -lc",
}
TOKENISER_OF = {"zh": "zh", **dict.fromkeys(("ja", "th", "lo", "km", "my"), "char")}  # all others: 13a
STEMMERS = {
    "en": "porter",
    "ar": "snowball-arabic",
    "da": "snowball-danish",
    "de": "snowball-german",
    "es": "snowball-spanish",
    "fi": "snowball-finnish",
    "fr": "snowball-french",
    "hu": "snowball-hungarian",
    "it": "snowball-italian",
    "nl": "snowball-dutch",
    "no": "snowball-norwegian",
    "pt": "snowball-portuguese",
    "ro": "snowball-romanian",
    "ru": "snowball-russian",
    "sv": "snowball-swedish",
}
SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}ー\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"


@dataclass(frozen=True)
class Convention:
    """How texts are made comparable. Raises UsageError for a value that is not known.

    language: "en", "zh", "de", "zh-CN", ...; lowercase: for BLEU, chrF, NIST and diversity (ROUGE, METEOR and TER
    always ignore case); tokenise: one of TOKENISERS, None: the language's; stem: for ROUGE and METEOR where the
    language has a stemmer; synonyms: for METEOR; segment: text in, the same text with spaces between words out
    (Chinese words instead of characters); seed: of whatever is drawn; verbatim: answers are labels, which an exact
    match compares as they stand, but for case and outer space ("C++" is not "C#").
    """

    language: str = "en"
    lowercase: bool = False
    tokenise: str | None = None
    stem: bool = True
    synonyms: Synonyms | None = None
    segment: Callable[[str], str] | None = None
    seed: int = 0
    verbatim: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*", self.language):
            raise UsageError(f'The language "{self.language}" is no language code; give one like en, de or zh.')
        if self.tokenise is not None and self.tokenise not in TOKENISERS:
            raise UsageError(f'There is no tokeniser "{self.tokenise}"; there are {", ".join(TOKENISERS)}.')

    @property
    def code(self) -> str:
        """The language without its region: "zh" of "zh-CN"."""
        return re.split("[-_]", self.language)[0].lower()

    @property
    def tokeniser(self) -> str:
        """The name in TOKENISERS that is in force."""
        return self.tokenise or ("none" if self.segment else TOKENISER_OF.get(self.code, "13a"))

    @property
    def lower(self) -> bool:
        return self.lowercase or self.tokeniser == "tok"

    @property
    def stemmer(self) -> str | None:
        """The name of the stemmer in force, None for none."""
        return STEMMERS.get(self.code) if self.stem else None

    @property
    def signature(self) -> dict[str, str | int | float]:
        """Language and segmentation, for every signature."""
        parts: dict[str, str | int | float] = {"language": self.code}
        if self.segment:
            parts["segment"] = getattr(self.segment, "__name__", type(self.segment).__name__).replace("|", "_")
        return parts

    @property
    def word_signature(self) -> dict[str, str | int | float]:
        """The same, with how words are told apart."""
        case = "lc" if self.lower else "mixed"
        return {**self.signature, "case": case, "tok": self.tokeniser, "sacrebleu": load_sacrebleu().__version__}


@dataclass(frozen=True)
class Texts:
    """Outputs of one system, (n,), with one or more references for each, (n,) lists, or with none at all."""

    hypotheses: list[str]
    references: list[list[str]] | None
    convention: Convention

    @property
    def required(self) -> list[list[str]]:
        """The references. Raises LLMBertError where there are none."""
        if self.references is None:
            raise LLMBertError("This metric compares with references, and none were given; give one for each text.")
        return self.references

    @cached_property
    def segmented(self) -> tuple[list[str], list[list[str]]]:
        """Hypotheses and references after `Convention.segment`, as they came without it."""
        cut = self.convention.segment
        if cut is None:
            return self.hypotheses, self.required
        return [cut(text) for text in self.hypotheses], [[cut(text) for text in group] for group in self.required]

    @cached_property
    def hypothesis_words(self) -> list[list[str]]:
        cut = self.convention.segment
        return [tokenise(cut(text) if cut else text, self.convention) for text in self.hypotheses]

    @cached_property
    def reference_words(self) -> list[list[list[str]]]:
        return [[tokenise(text, self.convention) for text in group] for group in self.segmented[1]]


def tokenise(text: str, convention: Convention) -> list[str]:
    """The words of a text as sacreBLEU's tokeniser of that name gives them."""
    if convention.lower:
        text = text.lower()
    return bleu_tokeniser(convention.tokeniser)(text.rstrip()).split()


@cache
def bleu_tokeniser(name: str) -> Callable[[str], str]:
    """sacreBLEU's tokeniser for a name in TOKENISERS: a text becomes the same with spaces between tokens."""
    return load_sacrebleu().metrics.BLEU(tokenize=_SACREBLEU_NAMES.get(name, name), force=True).tokenizer


_SACREBLEU_NAMES = {"tok": "none"}


def load_sacrebleu() -> Any:
    try:
        import sacrebleu
    except ImportError as error:
        raise LLMBertError("BLEU, chrF and TER need the package sacrebleu; pip install sacrebleu.") from error
    return sacrebleu


@cache
def stemmer(name: str) -> Callable[[str], str]:
    """The stemmer of that name (a value of STEMMERS), remembering what it has stemmed. Needs no download."""
    try:
        from nltk.stem.porter import PorterStemmer
        from nltk.stem.snowball import SnowballStemmer
    except ImportError as error:
        raise LLMBertError("Stemming needs the package nltk; pip install nltk, or give stem=False.") from error
    made = PorterStemmer() if name == "porter" else SnowballStemmer(name.removeprefix("snowball-"))
    return lru_cache(maxsize=1 << 17)(made.stem)


def unspaced_words(text: str) -> list[str]:
    """Words without punctuation; each character by itself where the script has no spaces ("GPT模型" → GPT, 模, 型).

    That holds for Han, kana, Thai, Lao, Khmer and Myanmar; words of all other scripts are runs of letters, marks and
    digits, as in `any_words`.
    """
    return list(_pattern(rf"(?V1)[{SPACELESS}]\p{{M}}*|[[\p{{L}}\p{{M}}\p{{N}}]--[{SPACELESS}]]+").findall(text))


def any_words(text: str) -> list[str]:
    """Runs of letters, marks and digits, whatever their script: the words of text that is segmented."""
    return list(_pattern(r"[\p{L}\p{M}\p{N}]+").findall(text))


@cache
def _pattern(expression: str) -> Any:
    import regex  # its \p{...}; sacreBLEU depends on it

    return regex.compile(expression)


def ngram_counts(words: list[str], order: int) -> Counter[tuple[str, ...]]:
    """How often each n-gram of 1 to `order` words occurs."""
    return Counter(tuple(words[i : i + n]) for n in range(1, order + 1) for i in range(len(words) - n + 1))


def read_synonyms(path: str | Path) -> dict[str, set[str]]:
    """Synonyms from a UTF-8 file of one set a line, its words apart by spaces or commas: each word → the others.

    A code before the words that ends in "=" is left out (as in Chinese thesauri: "Aa01A01= 人 士 人物"); lines that
    begin with "#" are too. A word in several sets has the others of all. Raises LLMBertError where the file cannot
    be read or has no set of two words.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else f"cannot be read ({error.strerror})"
        raise LLMBertError(f"The synonyms {path}: the file {reason}; give a UTF-8 file of one set a line.") from error
    table: dict[str, set[str]] = {}
    for line in lines:
        words = [] if line.startswith("#") else re.split(r"[\s,，、]+", line.lower().strip())
        group = {word for word in words if word and not word.endswith("=")}
        for word in group if len(group) > 1 else ():
            table.setdefault(word, set()).update(group - {word})
    if not table:
        raise LLMBertError(f"The synonyms {path}: no line holds two words; write one set of synonyms a line.")
    return table
