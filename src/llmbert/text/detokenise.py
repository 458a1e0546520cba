"""Tokens back to text as people write it: Moses and Penn Treebank tokens of English and German, words of Chinese."""

from __future__ import annotations

import re

from llmbert.text.sentences import is_wide

_ESCAPED = {
    "&apos;": "'",
    "&quot;": '"',
    "&lt;": "<",
    "&gt;": ">",
    "&#124;": "|",
    "&#91;": "[",
    "&#93;": "]",
    "&bar;": "|",
}
_BRACKETS = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}"}
_MOSES_JOIN = re.compile(r" ?@(\S)@ ?")
_LEFT = re.compile(r"[,.:;!?)\]}%…，。：；！？）】》、]+|\.\.+|-{2}(?=\s)")
_RIGHT = re.compile(r"[(\[{¿¡$£€¥#（【《„]+|(?:US|A|C|HK|NZ)\$")
_CLITIC = re.compile(r"(?:n['’]t|['’](?:s|re|ve|ll|d|m|em|til|tis|twas|S|RE|VE|LL|D|M))$|N['’]T$")
_GERMAN_CLITIC = re.compile(r"['’](?:s|n|ne|nen|nem|m|S)$")
# Penn Treebank cuts these words in two.
_TWO_WORDS = re.compile(r"\b(can) (not)\b|\b(gon|wan|got) (na|ta)\b|\b(gim|lem) (me)\b|\b(d)['’] (ye)\b", re.IGNORECASE)
_CUT_HYPHEN = re.compile(r"(?<=\w) ?- ?(?=[\w£$€])")
_TORN = ("s", "t", "re", "ve", "ll", "d", "m")
_QUOTE_MARKS = ('"', "``", "''", "“", "”")
_WIDE_MARKS = "，。、；：？！（）【】《》「」『』〈〉“”‘’…—～·"


def detokenise(text: str, language: str = "en", hyphens: bool = False) -> str:
    """The text that tokens apart by spaces stand for, line by line.

    English and German ("de"): Moses' escapes and @-@, Penn Treebank's brackets, quotes and contractions ("do n't");
    punctuation goes back to its word; straight quotes open and close in turn. hyphens: tokens were cut at hyphens too,
    as in E2E ("family - friendly", "£ 20- £ 25"). Chinese ("zh"): no space beside a Chinese character, spaces between
    Latin words stay. Text that is no longer tokens passes unchanged, but for runs of spaces.
    """
    lines = text.split("\n")
    if language == "zh":
        return "\n".join(map(join_wide, lines))
    joined = "\n".join(_join(line, language) for line in lines)
    return _CUT_HYPHEN.sub("-", joined) if hyphens else joined


def join_wide(line: str) -> str:
    """Words of Chinese without the spaces between them; a space between two Latin words or numbers stays."""
    parts = line.split()
    joined = parts[0] if parts else ""
    for part in parts[1:]:
        tight = _is_wide(joined[-1]) or _is_wide(part[0]) or (part[0] in ",.:;!?%)" and not part[1:])
        joined += part if tight else f" {part}"
    return joined


def _is_wide(character: str) -> bool:
    return is_wide(character) or character in _WIDE_MARKS


def _join(line: str, language: str) -> str:
    for escape, character in _ESCAPED.items():
        line = line.replace(escape, character)
    line = _MOSES_JOIN.sub(r"\1", line.replace("&amp;", "&"))
    tokens = [_BRACKETS.get(token.upper(), token) for token in line.split()]
    words = _Joined(language)
    for at, token in enumerate(tokens):
        words.add(token, tokens[at + 1 :])
    text = "".join(words.parts)
    return _TWO_WORDS.sub(lambda match: "".join(group for group in match.groups() if group), text)


class _Joined:
    """A line under way: what was joined, whether the next token joins on without a space, and which quotes are open."""

    def __init__(self, language: str) -> None:
        self.german = language == "de"
        self.parts: list[str] = []
        self.tight = True
        self.open: dict[str, bool] = {'"': False, "'": False, "«": False}

    def add(self, token: str, following: list[str]) -> None:
        """Join one token on."""
        before, after = self._sides(token, following)
        if self.parts and not (self.tight or before):
            self.parts.append(" ")
        self.parts.append('"' if token in ("``", "''") else token)
        self.tight = after

    def _sides(self, token: str, following: list[str]) -> tuple[bool, bool]:
        """Whether no space stands before, and whether none stands after."""
        if token in _QUOTE_MARKS:
            return self._quote(token)
        if token in ("«", "»"):  # French and Swiss texts open with «, German ones with »
            self.open["«"] = not self.open["«"]
            return not self.open["«"], self.open["«"]
        if token in ("'", "’", "`", "‘", "‚"):
            return self._apostrophe(token, following)
        clitics = _GERMAN_CLITIC if self.german else _CLITIC
        if clitics.match(token) and self.parts:
            return True, False
        if token == "%" and self.german:
            return False, False  # DIN 5008: 5 %
        if token == "#" and not (following and following[0].isdigit()):
            return False, False
        if _LEFT.fullmatch(token) or (self.german and token == "“"):
            return True, False
        return False, bool(_RIGHT.fullmatch(token))

    def _quote(self, token: str) -> tuple[bool, bool]:
        if token == "“" and self.german:
            return True, False  # closes what „ opened
        opens = {"``": True, "“": True, "''": False, "”": False}.get(token, not self.open['"'])
        self.open['"'] = opens
        return not opens, opens

    def _apostrophe(self, token: str, following: list[str]) -> tuple[bool, bool]:
        """A single quote that opens, one that closes, or the apostrophe of "the dogs ' tails"."""
        if token in ("`", "‘", "‚"):
            closes = token == "‘" and self.german
            self.open["'"] = not closes
            return closes, not closes
        if self.parts and following and following[0].lower() in _TORN:
            return True, True  # "let ’ s", cut twice
        if self.open["'"]:
            self.open["'"] = False
            return True, False
        plural = bool(self.parts) and self.parts[-1].endswith(("s", "S", "x", "z"))
        others = sum(each in ("'", "’") for each in following)
        if token == "’" or (plural and others % 2 == 0):
            return True, False
        self.open["'"] = others > 0
        return False, others > 0
