"""What the page of a text's statistics says, in English and in Chinese."""

from __future__ import annotations

from typing import Any

# (English, Chinese)
WORDS: dict[str, tuple[str, str]] = {
    "title": ("What is in {names}", "{names} 的统计"),
    "against_title": ("{names} against {others}", "{names} 与 {others} 的比较"),
    "summary": (
        "{documents:,} documents, {words:,} words, {vocabulary:,} of them different. A word's use falls with its rank "
        "to the power of {zipf} (Zipf), the vocabulary grows with the text to the power of {heaps} (Heaps). A "
        "compressor needs {bits:.2f} bits a character.",
        "共 {documents:,} 篇文档、{words:,} 个词，其中不同的词 {vocabulary:,} 个。"
        "词频随名次按 {zipf} 次幂下降（齐普夫定律），"
        "词汇量随文本长度按 {heaps} 次幂增长（希普斯定律）。压缩程序每字符需 {bits:.2f} 比特。",
    ),
    "apart": (
        "Their words are {js:.3f} bits apart (Jensen-Shannon, 0 to 1){chance}.",
        "两者的词分布相距 {js:.3f} 比特（詹森-香农散度，0 至 1）{chance}。",
    ),
    "by_chance": (
        "; were they of one source, chance would make it {mean:.3f} ({low:.3f} to {high:.3f}; p {p:.3f})",
        "；若出自同一来源，偶然即可达 {mean:.3f}（{low:.3f} 至 {high:.3f}；p 值 {p:.3f}）",
    ),
    "group_words": ("Words", "词"),
    "group_lengths": ("Lengths", "长度"),
    "group_entropy": ("Entropy", "熵"),
    "group_pairs": ("Collocations", "词语搭配"),
    "group_against": ("The two texts", "两文本之比较"),
    "ranks": ("How often each word is used", "词频与名次"),
    "rank": ("rank", "名次"),
    "times": ("times", "次数"),
    "words": ("words", "词"),
    "law_zipf": ("Zipf, s = {s:.3f}", "齐普夫，s = {s:.3f}"),
    "law_mandelbrot": ("Zipf-Mandelbrot, s = {s:.3f}, q = {q:.2f}", "齐普夫-曼德博，s = {s:.3f}，q = {q:.2f}"),
    "ranks_note": (
        "Both lines have the greatest likelihood; KS distances {zipf:.3f} and {mandelbrot:.3f}.",
        "两条线均为最大似然拟合；KS 距离分别为 {zipf:.3f} 与 {mandelbrot:.3f}。",
    ),
    "power_note": (
        "Words used {least:,} times or more ({words:,} of them) are distributed as a power law with α = {alpha:.3f} "
        "({low:.3f} to {high:.3f}, KS {ks:.3f}), which would be a Zipf exponent of {zipf:.3f}.",
        "出现 {least:,} 次以上的词（{words:,} 个）的次数分布近于幂律，α = {alpha:.3f}（{low:.3f} 至 {high:.3f}，"
        "KS {ks:.3f}），相当于齐普夫指数 {zipf:.3f}。",
    ),
    "growth": ("How the vocabulary grows", "词汇量的增长"),
    "growth_x": ("words read", "已读词数"),
    "growth_y": ("different words", "不同的词"),
    "measured": ("measured", "实测"),
    "law_heaps": ("Heaps, β = {beta:.3f}", "希普斯，β = {beta:.3f}"),
    "growth_note": (
        "β lies between {low:.3f} and {high:.3f} (95 %, widened by how unevenly new words come). A vocabulary that was "
        "closed beforehand bends away from the line.",
        "β 介于 {low:.3f} 与 {high:.3f} 之间（95%，已按新词出现的不均匀程度放宽）。事先限定的词表会偏离该直线。",
    ),
    "most": ("The most frequent words", "最常见的词"),
    "word": ("word", "词"),
    "share": ("share of all", "占比"),
    "document_words": ("Words of a document", "文档的词数"),
    "sentence_words": ("Words of a sentence", "句子的词数"),
    "word_characters": ("Characters of a word", "词的字符数"),
    "length": ("length", "长度"),
    "length_y": ("share, %", "占比，%"),
    "best": (
        "Best by BIC: {best}; KS distance {ks:.3f}. {count:,} lengths, mean {mean:.2f}, quartiles {q[0]:,}, {q[1]:,}, "
        "{q[2]:,}. Small p-values only say that so many lengths tell the family from the truth; the KS distance says "
        "how far apart they are.",
        "按 BIC 最优：{best}；KS 距离 {ks:.3f}。共 {count:,} 个长度，均值 {mean:.2f}，四分位数 {q[0]:,}、{q[1]:,}、"
        "{q[2]:,}。p 值小只说明样本之多足以分辨分布族与真实；两者相差多少要看 KS 距离。",
    ),
    "few": ("Too few or too equal for a distribution to be fitted.", "数量过少或取值相同，未拟合分布。"),
    "family": ("family", "分布族"),
    "mle": ("likeliest (ML)", "最大似然"),
    "map": ("most probable (MAP)", "最大后验"),
    "prior": ("prior", "先验"),
    "log_likelihood": ("log-likelihood", "对数似然"),
    "chi_square": ("χ² (cells)", "χ²（格数）"),
    "limit": ("limit", "极限"),
    "poisson": ("Poisson", "泊松"),
    "binomial": ("binomial", "二项"),
    "geometric": ("geometric", "几何"),
    "negative binomial": ("negative binomial", "负二项"),
    "uniform": ("uniform", "均匀"),
    "normal": ("normal", "正态"),
    "log-normal": ("log-normal", "对数正态"),
    "facts": ("What documents hold", "文档包含的内容"),
    "facts_y": ("share of documents, %", "文档占比，%"),
    "facts_note": (
        "Each is a Bernoulli variable: the share is the likeliest value, the interval the middle 95 % of the beta "
        "posterior under {prior}.",
        "各项均为伯努利变量：占比即最大似然值，区间为先验 {prior} 下贝塔后验的中间 95%。",
    ),
    "digit": ("a digit", "数字"),
    "capital": ("a capital letter", "大写字母"),
    "question": ("a question mark", "问号"),
    "quotation": ("a quotation mark", "引号"),
    "address": ("a web or mail address", "网址或邮箱"),
    "chinese": ("a Chinese character", "汉字"),
    "blocks_characters": ("What a character adds to those before it", "给定前文时一个字符的熵"),
    "blocks_words": ("What a word adds to those before it", "给定前文时一个词的熵"),
    "block_x": ("n, itself included", "n（含自身）"),
    "bits": ("bits", "比特"),
    "plug_in": ("plug-in", "插入估计"),
    "corrected": ("Miller-Madow", "米勒-马道修正"),
    "conditional": ("H given n - 1", "给定前 n - 1 个的 H"),
    "blocks": ("blocks", "片段"),
    "kinds": ("different", "不同的"),
    "once": ("met once, %", "仅见一次，%"),
    "blocks_note": ("No estimate is far too low here.", "各估计均无明显偏低。"),
    "undersampled": (
        "From n = {n} on more than a tenth of the blocks are met only once: these estimates are too low, however far "
        "the line falls.",
        "自 n = {n} 起，一成以上的片段仅出现一次：这些估计偏低，曲线的下降不足为凭。",
    ),
    "packed": ("What a character costs", "每字符所需比特"),
    "packed_note": (
        "Entropies of characters one by one are a floor for codes that look at nothing else; a compressor looks "
        "further back and is an upper bound on the text's entropy. Compressed: {characters:,} characters.",
        "单字符熵是不看上下文的编码的下界；压缩程序利用上文，其结果是文本熵的上界。压缩了 {characters:,} 个字符。",
    ),
    "one_by_one": ("entropy of single characters", "单字符熵"),
    "given_before": ("entropy given {n} before", "给定前 {n} 个字符的熵"),
    "information_characters": ("What a character says about another", "字符之间的互信息"),
    "information_words": ("What a word says about another", "词之间的互信息"),
    "distance": ("distance", "距离"),
    "shuffled": ("shuffled text", "打乱后的文本"),
    "above": ("above the shuffled", "超出打乱文本"),
    "pairs": ("pairs", "对数"),
    "information_note": (
        "Mutual information of two {what} so far apart in one document; where the line meets that of the shuffled text "
        "nothing is left to say. All but the {most:,} most frequent count as one, which can only lower it.",
        "同一文档内相距若干位置的两个{what}之间的互信息；与打乱文本的线重合处即无信息可言。除最常见的 {most:,} "
        "种外均合为一种，这只会使数值偏低。",
    ),
    "of_characters": ("characters", "字符"),
    "of_words": ("words", "词"),
    "pmi": ("Highest PMI", "点互信息最高"),
    "npmi": ("Highest normalised PMI", "归一化点互信息最高"),
    "ratio": ("Highest log-likelihood ratio", "对数似然比最高"),
    "pair": ("pair", "词对"),
    "pmi_head": ("PMI, bits", "PMI，比特"),
    "npmi_head": ("normalised", "归一化"),
    "ratio_head": ("G²", "G²"),
    "pmi_note": (
        "Neighbours met {least} times or more. PMI loves pairs of rare words, so the other two stand beside it.",
        "至少相邻出现 {least} 次的词对。点互信息偏爱罕见词对，故另列两种。",
    ),
    "npmi_note": ("PMI over its greatest possible value (Bouma 2009).", "点互信息除以其最大可能值（Bouma 2009）。"),
    "ratio_note": (
        "How strong the evidence is that the two are not independent (Dunning 1993).",
        "两词不独立的证据强度（Dunning 1993）。",
    ),
    "divergence": ("How far apart they are", "两者相距多远"),
    "js_of": ("{what}: Jensen-Shannon", "{what}：詹森-香农散度"),
    "chance_of": ("{what}: one source, by chance", "{what}：同一来源，偶然所致"),
    "p_values": (
        " The share of such deals that are as far apart (p): words {p[0]:.3f}, characters {p[1]:.3f}.",
        "重新分配后相距不小于此的比例（p 值）：词 {p[0]:.3f}，字符 {p[1]:.3f}。",
    ),
    "divergence_note": (
        "0 bits: the same shares; 1 bit: nothing in common. Rare words, which a text has or lacks by chance, make all "
        "of these figures too high. Grey: the documents of both texts, dealt at random to two sides of the same sizes, "
        "with the middle 95 %: what chance makes of one source.{p} Kullback-Leibler, counts smoothed by a half: "
        "words {kl[0]:.3f} and {kl[1]:.3f} bits, characters {kl[2]:.3f} and {kl[3]:.3f}.",
        "0 比特：分布相同；1 比特：毫无共同之处。罕见词有无皆出于偶然，使这些数值均偏高。"
        "灰色：将两个文本的文档混合后随机分成同样大小的两份所得的距离（附中间 95%），即同一来源下偶然所致。{p}"
        "KL 散度（计数加 0.5 平滑）：词 {kl[0]:.3f} 与 {kl[1]:.3f} 比特，字符 {kl[2]:.3f} 与 {kl[3]:.3f}。",
    ),
    "differing": ("The words that differ most", "差异最大的词"),
    "differing_note": (
        "Those that add most to the divergence, with their uses in a million words.",
        "对散度贡献最大的词，及其在每百万词中的次数。",
    ),
    "thousandths": ("thousandths of a bit", "千分之一比特"),
    "documents": ("documents", "文档"),
    "characters": ("characters", "字符"),
    "bytes": ("bytes (UTF-8)", "字节（UTF-8）"),
    "vocabulary": ("different words", "不同的词"),
    "met_once": ("words met once", "仅见一次的词"),
    "tokenizer": ("words are cut by", "分词方式"),
    "way_space": ("white space", "空白"),
    "way_marks": ("letters and digits; marks apart; Chinese by jieba", "字母与数字成词，标点独立，汉字由 jieba 切分"),
    "way_chars": ("characters", "字符"),
    "sample": ("sample for all that needs the text itself", "需要原文的各项所用样本"),
    "sampled": ("{characters:,} characters, {share:.1%} of all", "{characters:,} 个字符，占全部 {share:.1%}"),
    "lacking": ("rare words were dropped: a count may lack", "罕见词已舍去：次数最多少计"),
    "prior_row": ("priors are worth", "先验的权重"),
    "prior_value": (
        "{weight:g} observations of length {guess:g}, none of them of this text",
        "相当于 {weight:g} 个长度为 {guess:g} 的观测，与本文本无关",
    ),
}


def say(key: str, language: str, **values: Any) -> str:
    """The words for `key` in "en" or "zh", with values filled in."""
    return WORDS[key][language == "zh"].format(**values)
