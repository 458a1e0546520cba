"""Bytes of a file to text: UTF-8 (with or without a mark), UTF-16 and UTF-32 by their mark, GB18030 by its content."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from llmbert.protocols import LLMBertError

SAMPLE_BYTES = 1 << 16
"""How much text after the first byte beyond ASCII decides between UTF-8 and GB18030."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CONTROLS = bytes(byte for byte in (*range(32), 127) if byte not in b"\t\n\v\f\r\x1a\x1b\x1c\x1d\x1e\x1f")
_ASCII = bytes(range(128))

# The most frequent characters of modern and of classical Chinese, simplified and traditional. They make up 60-80 % of
# Chinese text, and 0-15 % of what other encodings (EUC-KR, EUC-JP, Big5, windows-1251, torn UTF-8) give when read so.
_COMMON_HAN = frozenset(
    "一七三上下不与专且世业东两並个中丹为主久么之乐九也书买亂了事二于五些交亦产京人什今从他仙代令以们件价任休"
    "会似但位住体何作你佳使來依便保信修個們倒候值假做傳像僧元先光兒入內全兩八公六兮共关兵其内再几出分刚初別利"
    "别到制則前力功加务动動務勝包化北区區十千半华单南卡即却卷卻原去又及友反发取受口古只叫可台史号司吃各合同名"
    "后向吗君吟吧听吹吾告员呢周味命和品哈員唐唯商啊問喜單器四回因园国图國園在地场坏坐垂型城基堂堪報場塵壞士声"
    "处夕外多夜夢大天太夫失头奖女她好如始委子字孤学孩學它安完官定宜实客宮家容宿寂寄寒實寫对导將專尋對導小少尚"
    "就居屏展山峰川州工差己已市帝带師帶常幕干平年并幽幾应店度庭廣建开式引弟张張強强当形影往很後得從復微德心必"
    "志快忽态怎思性总恨恩息悠悲情想愁意愛感憐憶應懷成我或戰房所手才打找技把拿持指挺换接推提據支收改放政故效教"
    "散数整數文料斯新斷方於施无日早时明昔星春是显時晚景暮曉曲更書曾最會月有服望朝期木未本机李来東松板林果枝柳"
    "标校样格條楚業極楼樂樓樣樹機權次欢欲款歌正此步武歲歷歸死殘每比毛民气氣水求江池決沈沒沙没河治泉法波洗洞活"
    "派流浮海淚深清游溪满滿演漢濟火点為热無然煙照燈爭爱爲父片版牛物特猶獨玉王玩环现珠現理甚生產用田由电男界留"
    "當疑病登發白百的皆皇盘盡目直相看真眼眾着知石研确碧社神票离秋种科秦程種究空穿窮立站竹笑第等算管節籍系紅紫"
    "終組結絕給統經綠網總级经结给统网置羅美義翠老者而聖聞聯聲聽能臉臨自至臺與興舊舒舞舟般色花芳若苦英苹草莫获"
    "華萬落葉著蒙蒼蕭處虛蟲行術衣表被装裏裤西要見視親覺觀观视觉解言計記設許詩話該認語說誰請論識議讀變讓计让设"
    "评话该语说豈象資货质购贵费走起超越足跟路身車軍輕轉车较辑辦边过近还这进迴退送适选递這通速造逢連進遊運過道"
    "達遙遠還邊那部都鄉配酒醉里重野量金錢钱错長长門開閑間關门问间院陰陵陽隊際隨难雖雙雞離難雨雪雲電霜霞露靈青"
    "靜非面革音須領頭題题風风飛餐餘馆首香馬驚體高魚鲜鳥鳳鳴鶴麼黃點黨龍"
)


@dataclass
class TextStream:
    """The text of a stream of bytes, piece by piece, and what was learnt on the way.

    name: what an error calls the stream; encoding: of the part read so far.
    """

    name: str
    blocks: Iterable[bytes]
    encoding: str = "ascii"

    def __iter__(self) -> Iterator[str]:
        """Pieces of text about as long as the blocks. Raises LLMBertError at what is no text, with its place."""
        self._offset, self._lines = 0, 0
        blocks = iter(self.blocks)
        decoder: codecs.IncrementalDecoder | None = None
        first = b""
        while len(first) < 5 and (block := next(blocks, b"")):
            first += block
        for mark, encoding in _MARKS:
            if first.startswith(mark):
                decoder, self.encoding = codecs.getincrementaldecoder(encoding)(), encoding
                first, self._offset = first[len(mark) :], len(mark)
                break
        block = first
        while block:
            if decoder is None and not block.isascii():
                block = self._with_sample(block, blocks)
                self.encoding = self._detect(block)
                decoder = codecs.getincrementaldecoder(self.encoding)()
            yield self._decode(decoder, block)
            block = next(blocks, b"")
        if decoder is not None:
            self._decode(decoder, b"", final=True)

    def _with_sample(self, block: bytes, blocks: Iterator[bytes]) -> bytes:
        """The block with so many of the next ones that SAMPLE_BYTES follow its first byte beyond ASCII."""
        wanted = _first_beyond_ascii(block) + SAMPLE_BYTES
        parts, length = [block], len(block)
        while length < wanted and (more := next(blocks, b"")):
            parts.append(more)
            length += len(more)
        return b"".join(parts)

    def _detect(self, block: bytes) -> str:
        first = _first_beyond_ascii(block)
        sample = block[first : first + SAMPLE_BYTES]
        try:
            codecs.getincrementaldecoder("utf-8")().decode(sample)
        except UnicodeDecodeError as error:
            if is_chinese(sample):
                return "gb18030"
            raise self._refusal(block, first + error.start, "is not UTF-8") from error
        return "utf-8"

    def _decode(self, decoder: codecs.IncrementalDecoder | None, block: bytes, final: bool = False) -> str:
        pending = len(decoder.getstate()[0]) if decoder else 0
        try:
            text = decoder.decode(block, final) if decoder else block.decode("ascii")
        except UnicodeDecodeError as error:
            raise self._refusal(block, error.start - pending, f"is not {self.encoding.upper()}") from error
        if "\0" in text:
            raise self._refusal(block, max(0, block.find(b"\0")), "is zero, as in a binary file", "give a text file")
        if not self.encoding.startswith(("utf-16", "utf-32")):
            self._refuse_controls(block)
        self._offset += len(block)
        self._lines += text.count("\n")
        return text

    def _refuse_controls(self, block: bytes) -> None:
        controls = len(block) - len(block.translate(None, _CONTROLS))
        if controls > 8 and controls * 50 > len(block):
            at = next(at for at, byte in enumerate(block) if byte in _CONTROLS)
            raise self._refusal(block, at, "is one of many control characters, as in a binary file", "give a text file")

    def _refusal(
        self, block: bytes, at: int, what: str, mend: str = "save the file as UTF-8 (iconv -f ITS-ENCODING -t UTF-8)"
    ) -> LLMBertError:
        line = self._lines + block.count(b"\n", 0, max(0, at)) + 1
        return LLMBertError(f"{self.name}, line {line}: byte {self._offset + at} {what}; {mend}")


def _first_beyond_ascii(block: bytes) -> int:
    return len(block) - len(block.lstrip(_ASCII))


def is_chinese(sample: bytes) -> bool:
    """Whether the bytes read as GB18030 are Chinese: mostly Han and its marks, with the common characters common."""
    decoder = codecs.getincrementaldecoder("gb18030")()
    try:
        text = decoder.decode(sample)
    except UnicodeDecodeError:
        return False
    beyond = [character for character in text if character > "\x7f"]
    han = [character for character in beyond if "\u3400" <= character <= "\u9fff"]
    marks = sum(
        "\u2000" <= character <= "\u206f" or "\u3000" <= character <= "\u303f" or "\uff00" <= character <= "\uffef"
        for character in beyond
    )
    common = sum(character in _COMMON_HAN for character in han)
    return bool(han) and len(han) + marks >= 0.7 * len(beyond) and common >= 0.35 * len(han)
