"""What a page says of runs, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmbert.models import FAMILIES
from llmbert.report.numbers import data_size, duration

FALLING = 0.005  # of the held-out loss, gained in the last quarter of a training
WORSE = 0.01  # of the held-out loss, lost since its best
NEAR = 0.05  # of the best bits/byte
SHARED = 0.1  # of the held-out tokens

Row = Mapping[str, Any]

WORDS: dict[str, tuple[str, str]] = {
    "compare_title": ("Which language generator to ship", "该用哪个语言生成模型"),
    "compare_subtitle": (
        "{time} in all for {models} models on the same text, on this machine",
        "在本机共用 {time}，在同一文本上比较 {models} 个模型",
    ),
    "compare_subtitle_seeds": (
        "{time} in all for {models} families with {seeds} seeds each on the same text, on this machine. Figures are "
        "means over the seeds, intervals in the table those of the means (95 %, Student's t); who is ahead is judged "
        "on each document's mean; curves, texts and the weights of mixtures are the first's.",
        "在本机共用 {time}，在同一文本上比较 {models} 个家族，每个用 {seeds} 个种子。数值为各种子的均值，"
        "表中区间为均值的 95% 区间（学生氏 t），先后依各文档的均值判断；曲线、文本与混合权重取自第一个种子。",
    ),
    "seeds_mean": ("mean of {seeds} seeds", "{seeds} 个种子的均值"),
    "seeds_each": ("mean of {seeds} seeds: {each}", "{seeds} 个种子的均值：{each}"),
    "run_subtitle": ("{parameters:,} parameters, trained on this machine", "{parameters:,} 个参数，在本机训练"),
    "run_bits": (
        "This {family} reaches {bits:.3f} bits/byte on held-out text (95 % interval {low:.3f} to {high:.3f}), after "
        "{seconds:.0f} s of training.",
        "该 {family} 模型在留出文本上达到 {bits:.3f} 比特/字节（95% 区间 {low:.3f} 至 {high:.3f}），"
        "训练用时 {seconds:.0f} 秒。",
    ),
    "run_perplexity": (
        "This {family} reaches a perplexity of {perplexity:.2f} a token on held-out text, after {seconds:.0f} s of "
        "training; bits/byte are not stated, since some of that text is unknown to its tokeniser.",
        "该 {family} 模型在留出文本上的困惑度为每词元 {perplexity:.2f}，训练用时 {seconds:.0f} 秒；"
        "留出文本含有分词器未知的字符，故不给出比特/字节。",
    ),
    "run_infinite": (
        "This {family} gives some held-out tokens no probability at all: its perplexity is infinite.",
        "该 {family} 模型对部分留出词元给出零概率：其困惑度为无穷大。",
    ),
    "ship": ("Ship {name}: {bits:.3f} bits/byte on held-out text", "推荐 {name}：留出文本上 {bits:.3f} 比特/字节"),
    "ahead": (", {ahead:.3f} below {second}", "，比 {second} 低 {ahead:.3f}"),
    "end": (".", "。"),
    "apart": (
        "; on the same documents the difference lies between {low:.3f} and {high:.3f} (95 %).",
        "；在同样的文档上，两者之差介于 {low:.3f} 与 {high:.3f} 之间（95%）。",
    ),
    "chance": (
        "; on the same documents the difference lies between {low:.3f} and {high:.3f} (95 %), so the order may be "
        "chance.",
        "；在同样的文档上，两者之差介于 {low:.3f} 与 {high:.3f} 之间（95%），名次可能出于偶然。",
    ),
    "no_bits": (
        "No model has a figure in bits/byte on this text.",
        "没有模型在该文本上得到比特/字节的数值。",
    ),
    "behind": (
        " A compressor shown the training text does better than every model here ({bits:.3f}).",
        "读过训练文本的压缩程序（{bits:.3f}）胜过这里的所有模型。",
    ),
    "advice_ship": (
        "Ship {name}: at {bits:.3f} bits/byte it predicts held-out text best of all with an exact likelihood. It took "
        "{time} to train and takes {disk} on disk{pace}.",
        "推荐 {name}：{bits:.3f} 比特/字节，在给出精确似然的模型中对留出文本预测最好。"
        "训练用时 {time}，占磁盘 {disk}{pace}。",
    ),
    "advice_pace": ("; it writes 100 tokens in {time}", "，写 100 个词元用时 {time}"),
    "advice_no_exact": (
        "No model here gives an exact likelihood in bits/byte, so nothing ranks them; judge them by what they write.",
        "这里没有模型给出以比特/字节计的精确似然，无从排名；只能依其生成的文本判断。",
    ),
    "advice_tie": (
        "The held-out text does not tell {name} from {second}: more of it, or more seeds, would decide.",
        "留出文本不足以区分 {name} 与 {second}：更多留出文本或更多种子才能定论。",
    ),
    "advice_tie_paced": (
        "The held-out text does not tell {name} from {second}, so {name} is the cheaper choice: it writes 100 tokens "
        "in {fast}, {second} in {slow}. More held-out text, or more seeds, would decide.",
        "留出文本不足以区分 {name} 与 {second}，故 {name} 更划算：写 100 个词元用时 {fast}，{second} 则为 {slow}。"
        "更多留出文本或更多种子才能定论。",
    ),
    "advice_counting": (
        "Counting beats learning here: {counted} took {quick}, and {name}, the best that was trained step by step, is "
        "{gap:.3f} bits/byte behind it after {time}. Its held-out curve had flattened by the end, so more text "
        "or another size is the first thing that may change that.",
        "这里计数胜过学习：{counted} 只用 {quick}，而逐步训练者中最好的 {name} 训练 {time}后"
        "仍落后 {gap:.3f} 比特/字节。"
        "其留出曲线到结束时已趋平，最先值得一试的是更多文本或另一规模。",
    ),
    "advice_counting_falling": (
        "Counting beats learning here: {counted} took {quick}, and {name}, the best that was trained step by step, is "
        "{gap:.3f} bits/byte behind it after {time}. Its held-out curve was still falling at the end, so a longer "
        "--budget may change that.",
        "这里计数胜过学习：{counted} 只用 {quick}，而逐步训练者中最好的 {name} 训练 {time}后"
        "仍落后 {gap:.3f} 比特/字节。"
        "其留出曲线结束时仍在下降，更长的 --budget 或可改变这一点。",
    ),
    "advice_near": (
        "{name}, which was counted in {quick}, is only {gap:.3f} bits/byte behind {second}: where simplicity counts, "
        "it may do.",
        "{name} 只需计数 {quick}，仅比 {second} 落后 {gap:.3f} 比特/字节：若看重简单，它或已够用。",
    ),
    "advice_falling": (
        "The held-out curve of {name} was still falling at the end: a longer --budget would make it better.",
        "{name} 的留出曲线结束时仍在下降：更长的 --budget 会使其更好。",
    ),
    "advice_rising": (
        "{name} was better on held-out text earlier in its training than at the end: more text, dropout or patience "
        "(--set patience=…) would make it better.",
        "{name} 在训练中途对留出文本的预测比结束时更好：更多文本、dropout 或提前停止（--set patience=…）会使其更好。",
    ),
    "advice_behind": (
        "No better than {baseline} ({bits:.3f}), which needs no training: {names}.",
        "不优于无需训练的“{baseline}”（{bits:.3f}）：{names}。",
    ),
    "advice_bound": (
        "{name} gives a bound only: it needs at most {bits:.3f} bits/byte. Nothing here shows that it is better than "
        "{best}, nor by how much it is worse.",
        "{name} 只给出界：至多需要 {bits:.3f} 比特/字节。这里没有任何数值表明它优于 {best}，也看不出它差多少。",
    ),
    "advice_bound_ahead": (
        "{name} gives a bound only, and yet the bound, {bits:.3f} bits/byte, lies below the figure of {best}: it "
        "predicts held-out text better. Ship it if you can do without exact probabilities.",
        "{name} 只给出界，但其界 {bits:.3f} 比特/字节已低于 {best} 的数值：它对留出文本预测更好。"
        "若不需要精确概率，可用它。",
    ),
    "advice_collapsed": (
        "The latent variable of {name} has collapsed: it is a plain language model that takes more to run.",
        "{name} 的隐变量已坍缩：它只是一个更费资源的普通语言模型。",
    ),
    "advice_none": (
        "{name} gives no text a probability, so only what it writes can be judged",
        "{name} 不给出文本的概率，只能依其生成的文本判断",
    ),
    "advice_pseudo": (
        "{name} gives a pseudo-likelihood only, which ranks with nothing else here; what it writes can be judged",
        "{name} 只给出伪似然，不能与其他模型排名；但可依其生成的文本判断",
    ),
    "advice_conditional": (
        "{name} was asked for what had been taken out of held-out text, given the rest: {nats:.3f} nats/token. That "
        "ranks with nothing but others that were asked the same; it is a base for training on pairs.",
        "{name} 的任务是根据其余文本恢复留出文本中被删去的部分：{nats:.3f} 纳特/词元。此值只能与任务相同的模型比较；"
        "它可作为以成对文本训练的起点。",
    ),
    "advice_texts_behind": (
        ": its reverse score is {own:.2f} beside {real:.2f} of as much real text, that of {best} {other:.2f} beside "
        "{other_real:.2f}, so it covers less of the language.",
        "：其反向得分为 {own:.2f}（等量真实文本为 {real:.2f}），{best} 则为 {other:.2f}（{other_real:.2f}），"
        "故它覆盖的语言较少。",
    ),
    "advice_texts_ahead": (
        ": its reverse score is {own:.2f} beside {real:.2f} of as much real text, that of {best} {other:.2f} beside "
        "{other_real:.2f}, so it covers more of the language.",
        "：其反向得分为 {own:.2f}（等量真实文本为 {real:.2f}），{best} 则为 {other:.2f}（{other_real:.2f}），"
        "故它覆盖的语言较多。",
    ),
    "advice_milliseconds": (
        "If speed decides, take {name}: it writes 100 tokens in {least}, {best} in {own}.",
        "若速度优先，可选 {name}：写 100 个词元用时 {least}，{best} 则为 {own}。",
    ),
    "advice_bytes_on_disk": (
        "If size decides, take {name}: it takes {least} on disk, {best} {own}.",
        "若体积优先，可选 {name}：占磁盘 {least}，{best} 则为 {own}。",
    ),
    "advice_copies": (
        "Of what {name} writes {own:.1f} % stands in the training text word for word, of held-out text {real:.1f} %: "
        "do not ship it where that text must not come out.",
        "{name} 生成的文本有 {own:.1f}% 与训练文本逐字相同，留出文本则为 {real:.1f}%：若训练文本不得外泄，请勿使用。",
    ),
    "advice_overlap": (
        "{shared:.0%} of the held-out tokens lie in stretches that the training text has too, which favours whoever "
        "learns by heart: hold out other text (--valid) before you decide.",
        "{shared:.0%} 的留出词元位于训练文本也有的片段中，这偏向死记硬背者：定夺之前请另取留出文本（--valid）。",
    ),
    "advice_seeds": (
        "Each model was trained once: --seeds 3 would show how much of the order is the luck of a seed, which the "
        "intervals do not cover.",
        "每个模型只训练了一次：--seeds 3 可看出名次有多少出于种子的运气，区间并不涵盖这一点。",
    ),
    "advice_seeds_same": (
        "With its worst of {seeds} seeds {first} is still ahead of the best of {second}.",
        "{first} 在 {seeds} 个种子中最差的一次仍领先于 {second} 最好的一次。",
    ),
    "advice_seeds_differ": (
        "{first} is ahead of {second} in {ahead} of {pairs} pairs of their seeds: the order may be the luck of a seed.",
        "双方种子两两相比，{first} 领先于 {second} 的有 {ahead}/{pairs}：名次可能出于种子的运气。",
    ),
    "advice_failed": ("{name} could not be trained: {error}.", "{name} 未能训练：{error}。"),
    "collapsed": ("latent variable collapsed", "隐变量坍缩"),
    "likelihood_steps_only": (
        "The training line of {name} ends where its adversarial steps begin, whose losses have another unit.",
        "{name} 的训练曲线止于对抗训练开始处，其后的损失单位不同。",
    ),
    "mixed_linear": (
        "The members' probabilities are added by weight ({way}), as weighed on {tokens:,} tokens that none of them "
        "learned from.",
        "各成员的概率按权重相加（{way}），权重得自 {tokens:,} 个均未参与训练的词元。",
    ),
    "mixed_log-linear": (
        "The members' probabilities are multiplied, each to the power of its weight ({way}), as weighed on {tokens:,} "
        "tokens that none of them learned from. Such weights need not add up to 1, and one near 0 means that its "
        "member adds next to nothing.",
        "各成员的概率以权重为指数相乘（{way}），权重得自 {tokens:,} 个均未参与训练的词元。这种权重之和不必为 1，"
        "接近 0 者表示该成员几乎没有贡献。",
    ),
    "mixed_gate": (
        "The members' probabilities are added by weights that change from token to token ({way}), as learned on "
        "{tokens:,} tokens that none of them learned from; shown are their means.",
        "各成员的概率按逐词元变化的权重相加（{way}），权重得自 {tokens:,} 个均未参与训练的词元；所示为其均值。",
    ),
    "stopped_early": ("stopped early", "提前停止"),
    "documents": ("documents (train / valid)", "文档（训练 / 验证）"),
    "bytes": ("bytes", "字节"),
    "tokens": ("tokens", "词元"),
    "bytes_per_token": ("bytes per token", "每词元字节数"),
    "unknown": ("unknown tokens in valid", "验证集未知词元"),
    "fingerprint": ("fingerprint", "指纹"),
    "pairs": ("pairs (train / valid)", "句对（训练 / 验证）"),
    "source_tokens": ("source tokens (train / valid)", "源端词元（训练 / 验证）"),
    "target_tokens": ("target tokens (train / valid)", "目标端词元（训练 / 验证）"),
    "cut_pairs": ("training sources / targets cut to the context", "训练中被截断的源 / 目标"),
    "pairs_overlap": (
        "Of {pairs} held-out pairs {both} stand in the training pairs too; {sources} of their sources do, and "
        "{targets} of their targets.",
        "{pairs} 个留出句对中有 {both} 个也在训练句对之中；"
        "其源端有 {sources} 个、目标端有 {targets} 个在训练中出现过。",
    ),
    "examples_note": (
        "The first of the held-out pairs that were answered, which lie evenly over all of them; none was picked.",
        "以下是用于作答的留出句对中最前面的几个，这些句对均匀取自全部留出句对，未经挑选。",
    ),
    "run_metrics": (
        "This {family} reaches {figures} on held-out pairs, after {seconds:.0f} s of training.",
        "该 {family} 模型在留出句对上达到 {figures}，训练用时 {seconds:.0f} 秒。",
    ),
    "run_unscored": (
        "This {family} learned to mend damaged text in {seconds:.0f} s; it gives no text a probability of its own.",
        "该 {family} 模型用 {seconds:.0f} 秒学会修复残缺文本；它不给出文本本身的概率。",
    ),
    "run_drawn": (
        "This {family} learned to write in {seconds:.0f} s; it gives no text a probability of its own. Of its texts "
        "distinct-2 is {distinct:.3f} and self-BLEU-4 {alike:.3f}; of held-out texts they are {real_distinct:.3f} and "
        "{real_alike:.3f}.",
        "该 {family} 模型用 {seconds:.0f} 秒学会写作；它不给出文本本身的概率。其文本的 distinct-2 为 {distinct:.3f}，"
        "self-BLEU-4 为 {alike:.3f}；留出文本则为 {real_distinct:.3f} 与 {real_alike:.3f}。",
    ),
    "drawn_varied": (
        " They are more varied than real texts, which noise is too.",
        "其文本比真实文本更多样，而噪声亦然。",
    ),
    "drawn_alike": (
        " They are less varied than real texts: it may have settled on a few.",
        "其文本不如真实文本多样：它可能只会写少数几种。",
    ),
    "run_restored": (
        "This {family} restores what was taken out of held-out text at a perplexity of {perplexity:.2f} a token, after "
        "{seconds:.0f} s of training; it is given the rest of the text, so this is no code length.",
        "该 {family} 模型恢复留出文本中被删片段的困惑度为每词元 {perplexity:.2f}，训练用时 {seconds:.0f} 秒；"
        "其余文本是给定的，故此值不是编码长度。",
    ),
    "run_pseudo": (
        "This {family} finds a hidden token of held-out text with a pseudo-perplexity of {perplexity:.2f}, after "
        "{seconds:.0f} s of training; it sees both sides of the token, so this is no code length.",
        "该 {family} 模型猜测留出文本中被遮盖词元的伪困惑度为 {perplexity:.2f}，训练用时 {seconds:.0f} 秒；"
        "它能看到词元两侧，故此值不是编码长度。",
    ),
    "run_bound": (
        "This {family} needs at most {bits}{nats:.2f} nats for a held-out text, {kl:.2f} of them for its latent "
        "variable, after {seconds:.0f} s of training. {verdict}",
        "该 {family} 模型对每个留出文本至多需要 {bits}{nats:.2f} 纳特，其中隐变量占 {kl:.2f}，"
        "训练用时 {seconds:.0f} 秒。{verdict}",
    ),
    "bound_bits": ("{bits:.3f} bits/byte, or ", "{bits:.3f} 比特/字节，即 "),
    "latent_used": (
        "The latent variable is in use: {active_units} of its {units} dimensions vary over texts, and it tells "
        "{mutual_information:.2f} nats about each.",
        "隐变量得到使用：{units} 个维度中有 {active_units} 个随文本变化，"
        "它提供每个文本 {mutual_information:.2f} 纳特的信息。",
    ),
    "latent_collapsed": (
        "The latent variable has collapsed: it tells {mutual_information:.2f} nats about a text, and the decoder does "
        "without it.",
        "隐变量已坍缩：它只提供每个文本 {mutual_information:.2f} 纳特的信息，解码器不依赖它。",
    ),
    "latent_remedy": (
        " Let the KL term rise later (--set kl_steps=…), train the encoder more (--set aggressive=…), leave some of "
        "the term free (--set free_bits=0.1) or hide words from the decoder (--set word_dropout=0.3).",
        "可让 KL 项更晚上升（--set kl_steps=…）、多训练编码器（--set aggressive=…）、为该项保留免费额度"
        "（--set free_bits=0.1），或向解码器遮住部分词（--set word_dropout=0.3）。",
    ),
    "latent_bound": ("bound, nats a text", "每个文本的界（纳特）"),
    "latent_reconstruction": ("of it reconstruction", "其中重建"),
    "latent_kl": ("of it KL to the prior", "其中对先验的 KL"),
    "latent_information": ("mutual information with the text, nats", "与文本的互信息（纳特）"),
    "latent_active": ("active dimensions", "活跃维度"),
    "latent_weighted": (
        "bound → importance-weighted, {draws} draws, {texts} texts",
        "界 → 重要性加权界（{draws} 次抽样，{texts} 个文本）",
    ),
    "overlap_private": (
        "How much of the held-out text stands in the training text too is not told: it would tell of that text.",
        "不说明留出文本有多少也见于训练文本：那会透露训练文本。",
    ),
    "overlap_sentence": (
        "{shared:.1%} of the held-out tokens lie in a stretch of {window} tokens (about 50 bytes) that stands in the "
        "training text too; {duplicates:,} of {documents:,} held-out documents stand there whole.",
        "留出词元中有 {shared:.1%} 位于训练文本也出现的连续 {window} 个词元（约 50 字节）之内；"
        "{documents:,} 篇留出文档中有 {duplicates:,} 篇整篇出现在训练文本中。",
    ),
    "mixture_way": ("how the members are combined", "成员的组合方式"),
    "mixture_shares": ("their weights", "成员权重"),
    "mixture_alone": ("nats/token of each on {tokens:,} kept tokens", "各成员在 {tokens:,} 个保留词元上的纳特/词元"),
    "mixture_ways": ("of each way, on half of them", "各组合方式（在其中一半上）"),
    "command": ("command", "命令"),
    "seed": ("seed", "随机种子"),
    "machine": ("machine", "机器"),
    "versions": ("versions", "版本"),
    "signature": ("signature", "签名"),
    "signature_of": ("signature of {name}", "{name} 的签名"),
    "uniform": ("uniform over bytes", "字节均匀分布"),
    "frequencies": ("token frequencies", "词元频率"),
    "compressor": ("xz + training text", "xz（读过训练文本）"),
    "sample_settings": ("temperature {temperature} · seed {seed}", "温度 {temperature} · 种子 {seed}"),
    "axis_tokens": ("tokens", "词元"),
    "axis_nats": ("nats/token", "纳特/词元"),
}


def say(key: str, language: str, **values: Any) -> str:
    """The words for `key` in "en" or "zh", with values filled in."""
    return WORDS[key][language == "zh"].format(**values)


def run_summary(facts: Mapping[str, Any], scores: Mapping[str, Any], language: str) -> str:
    """One sentence on a run: its figure on held-out text."""
    known = {"family": facts["family"], "seconds": facts["train_seconds"]}
    if facts.get("metrics"):
        figures = [
            f"{name} {score['score']:.1f}" for scores in facts["metrics"].values() for name, score in scores.items()
        ]
        return say("run_metrics", language, figures=", ".join(figures), **known)
    if facts.get("draws"):
        distinct, alike = facts["draws"]["distinct2"], facts["draws"]["self-bleu4"]
        found = {"distinct": distinct["score"], "real_distinct": distinct["baseline"]["value"]}
        found |= {"alike": alike["score"], "real_alike": alike["baseline"]["value"]}
        more = [found["distinct"] > found["real_distinct"], found["alike"] < found["real_alike"]]
        verdict = "drawn_varied" if all(more) else "" if any(more) else "drawn_alike"
        return say("run_drawn", language, **found, **known) + (say(verdict, language) if verdict else "")
    if scores["likelihood"] == "none":
        return say("run_unscored", language, **known)
    if scores["likelihood"] == "pseudo" and scores["perplexity"] is not None:
        return say("run_pseudo", language, perplexity=scores["perplexity"], **known)
    if facts.get("latent"):
        found = facts["latent"]
        verdict = say("latent_collapsed" if found["collapsed"] else "latent_used", language, **found)
        bits = "" if scores["bits_per_byte"] is None else say("bound_bits", language, bits=scores["bits_per_byte"])
        told = {"nats": found["bound"], "kl": found["kl"], "verdict": verdict, "bits": bits}
        return say("run_bound", language, **told, **known)
    if scores["bits_per_byte"] is not None:
        interval = (scores["interval"] or {}).get("bits_per_byte") or [scores["bits_per_byte"]] * 2
        return say("run_bits", language, bits=scores["bits_per_byte"], low=interval[0], high=interval[1], **known)
    if scores["likelihood"] == "conditional" and scores["perplexity"] is not None:
        return say("run_restored", language, perplexity=scores["perplexity"], **known)
    if scores["perplexity"] is not None:
        return say("run_perplexity", language, perplexity=scores["perplexity"], **known)
    return say("run_infinite", language, family=facts["family"])


def compare_summary(
    table: Sequence[Mapping[str, Any]],
    baselines: Sequence[Mapping[str, Any]],
    lead: Mapping[str, Any] | None,
    language: str,
) -> str:
    """The best in bits/byte, by how much, whether chance could do it, and whether a baseline beats it.

    table: best first; lead: the `paired_difference` of its first two.
    """
    ranked = [row for row in table if row["bits_per_byte"] is not None and row.get("likelihood", "exact") == "exact"]
    if not ranked:
        return say("no_bits", language)
    best = ranked[0]
    text = say("ship", language, name=best["name"], bits=best["bits_per_byte"])
    if lead is not None:
        second = ranked[1]
        ahead = second["bits_per_byte"] - best["bits_per_byte"]
        text += say("ahead", language, ahead=ahead, second=second["name"])
    if lead is not None and lead["interval"]["difference"]:
        low, high = (-bound for bound in reversed(lead["interval"]["difference"]))
        text += say("apart" if lead["better"] == "a" else "chance", language, low=low, high=high)
    else:
        text += say("end", language)
    cheapest = min((row["bits_per_byte"] for row in baselines), default=float("inf"))
    if cheapest < best["bits_per_byte"]:
        text += say("behind", language, bits=cheapest)
    return text


# ---- advice ------------------------------------------------------------------------------------------------------


def compare_advice(
    table: Sequence[Row],
    baselines: Sequence[Row],
    evidence: Sequence[Row],
    curves: Sequence[Row],
    lead: Row | None,
    overlap: Row,
    language: str,
    trials: Sequence[Sequence[Row]] = (),
) -> list[str]:
    """What to ship, then everything measured that speaks against it or would change it.

    table: best first, as `pages.table_row` has it; evidence: as `compare.evidence_rows`; lead: the `paired_difference`
    of the first two with an exact likelihood; overlap: of a corpus; trials: where families were trained with several
    seeds, the rows of each family's runs.
    """
    exact = [row for row in table if row["bits_per_byte"] is not None and row["likelihood"] == "exact"]
    measured = {(str(row["name"]), str(row["metric"])): row for row in evidence}
    drawn = {str(curve["name"]): [y for _, y in curve["valid"]] for curve in curves}
    seeds = _luck(exact, trials, language) if trials else [say("advice_seeds", language)]
    if not exact:
        return [say("advice_no_exact", language), *_others(table, None, measured, language), *seeds]
    best = exact[0]
    return [
        _ship(best, measured, language),
        *_close(exact, lead, measured, language),
        *_counting(exact, drawn, language),
        *_course(best, drawn, language),
        *_behind(exact, baselines, language),
        *_others(table, best, measured, language),
        *_cheaper(exact, measured, language),
        *_copies(best, measured, language),
        *([say("advice_overlap", language, shared=overlap["shared_tokens"])] * (overlap["shared_tokens"] > SHARED)),
        *seeds,
    ]


def _luck(exact: Sequence[Row], trials: Sequence[Sequence[Row]], language: str) -> list[str]:
    """Whether the best two stand in the same order whichever of their seeds, each a draw of its own, are taken."""
    if len(exact) < 2:
        return []
    first, second = (next(rows for rows in trials if rows[0]["family"] == row["family"]) for row in exact[:2])
    ahead = sum(a["bits_per_byte"] < b["bits_per_byte"] for a in first for b in second)
    told = {"first": exact[0]["name"], "second": exact[1]["name"], "seeds": len(first)}
    told |= {"ahead": ahead, "pairs": len(first) * len(second)}
    return [say("advice_seeds_same" if ahead == told["pairs"] else "advice_seeds_differ", language, **told)]


def _ship(best: Row, measured: Mapping[tuple[str, str], Row], language: str) -> str:
    told = {"name": best["name"], "bits": best["bits_per_byte"], "disk": data_size(best["bytes_on_disk"])}
    told["time"] = duration(best["train_seconds"], language)
    writes = _value(best, "milliseconds", measured)
    pace = "" if writes is None else say("advice_pace", language, time=duration(writes / 1000, language))
    return say("advice_ship", language, pace=pace, **told)


def _close(exact: Sequence[Row], lead: Row | None, measured: Mapping[tuple[str, str], Row], language: str) -> list[str]:
    """Which of two that the held-out text does not tell apart costs less to use."""
    if lead is None or lead["better"] == "a":
        return []
    first, second = exact[:2]
    paces = [pace for row in (first, second) if (pace := _value(row, "milliseconds", measured)) is not None]
    if len(paces) < 2:
        return [say("advice_tie", language, name=first["name"], second=second["name"])]
    fast, slow = (first, second) if paces[0] <= paces[1] else (second, first)
    times = {"fast": duration(min(paces) / 1000, language), "slow": duration(max(paces) / 1000, language)}
    return [say("advice_tie_paced", language, name=fast["name"], second=slow["name"], **times)]


def _counting(exact: Sequence[Row], drawn: Mapping[str, Sequence[float]], language: str) -> list[str]:
    """How what is counted and what is learned by gradients stand to each other."""
    best = exact[0]
    counted = next((row for row in exact if FAMILIES[row["family"]].counts), None)
    learned = next(
        (row for row in exact if not (FAMILIES[row["family"]].counts or FAMILIES[row["family"]].mixes)), None
    )
    if counted is None or learned is None:
        return []
    gap = learned["bits_per_byte"] - counted["bits_per_byte"]
    if gap > 0:
        told = {"name": learned["name"], "gap": gap, "time": duration(learned["train_seconds"], language)}
        told |= {"counted": counted["name"], "quick": duration(counted["train_seconds"], language)}
        falling = _falling(drawn.get(str(learned["name"]), ()))
        return [say("advice_counting_falling" if falling else "advice_counting", language, **told)]
    if -gap < NEAR * best["bits_per_byte"]:
        told = {"name": counted["name"], "gap": -gap, "second": learned["name"]}
        return [say("advice_near", language, quick=duration(counted["train_seconds"], language), **told)]
    return []


def _course(best: Row, drawn: Mapping[str, Sequence[float]], language: str) -> list[str]:
    """Whether the best one's training ended too early or too late."""
    course = drawn.get(str(best["name"]), ())
    if _falling(course):
        return [say("advice_falling", language, name=best["name"])]
    if course and course[-1] > (1 + WORSE) * min(course):
        return [say("advice_rising", language, name=best["name"])]
    return []


def _falling(course: Sequence[float]) -> bool:
    if len(course) < 4:
        return False
    before = course[-1 - max(1, len(course) // 4)]
    return course[-1] < (1 - FALLING) * before


def _behind(exact: Sequence[Row], baselines: Sequence[Row], language: str) -> list[str]:
    """Who does no better than what needs no training, each beside the best such thing that it loses to."""
    losers: dict[str, list[str]] = {}
    values = {str(row["name"]): float(row["bits_per_byte"]) for row in baselines}
    for row in exact:
        ahead = [name for name, value in values.items() if value <= row["bits_per_byte"]]
        if ahead:
            losers.setdefault(min(ahead, key=lambda name: values[name]), []).append(str(row["name"]))
    joined = "、" if language == "zh" else ", "
    return [
        say("advice_behind", language, names=joined.join(names), baseline=name, bits=values[name])
        for name, names in losers.items()
    ]


def _others(
    table: Sequence[Row], best: Row | None, measured: Mapping[tuple[str, str], Row], language: str
) -> list[str]:
    """What can be said of those whose figures are of another kind."""
    said = []
    for row in table:
        bits, kind, told = row["bits_per_byte"], row["likelihood"], {"name": row["name"]}
        if best is not None and kind == "bound" and bits is not None:
            key = "advice_bound_ahead" if bits < best["bits_per_byte"] else "advice_bound"
            said.append(say(key, language, bits=bits, best=best["name"], **told))
        elif kind == "conditional" and row["nats_per_token"] is not None:
            said.append(say("advice_conditional", language, nats=row["nats_per_token"], **told))
        elif kind in ("none", "pseudo"):
            said.append(say(f"advice_{kind}", language, **told) + _by_its_texts(row, best, measured, language))
        if row.get("collapsed"):
            said.append(say("advice_collapsed", language, **told))
    return said


def _by_its_texts(row: Row, best: Row | None, measured: Mapping[tuple[str, str], Row], language: str) -> str:
    """The reverse score beside the best one's, since it sees what is left out as well as what is wrong.

    Each beside as much real text, for fewer texts cover less.
    """
    scores = [measured.get((str(each["name"]), "reverse")) for each in (row, best) if each is not None]
    known = [(found["value"], found["baseline"]["value"]) for found in scores if found and found["baseline"]]
    if best is None or len(known) < 2:
        return say("end", language)
    (own, real), (other, other_real) = known
    told = {"own": own, "real": real, "other": other, "other_real": other_real, "best": best["name"]}
    return say("advice_texts_behind" if own - real >= other - other_real else "advice_texts_ahead", language, **told)


def _cheaper(exact: Sequence[Row], measured: Mapping[tuple[str, str], Row], language: str) -> list[str]:
    """Who of those that could stand in for the best writes faster and who is smaller, by a fifth at least."""
    best, names, said = exact[0], {str(row["name"]) for row in exact}, []
    shown = {"milliseconds": lambda v: duration(v / 1000, language), "bytes_on_disk": lambda v: data_size(v * 1e6)}
    for metric, text in shown.items():
        values = {name: row["value"] for (name, key), row in measured.items() if key == metric and name in names}
        own = values.get(str(best["name"]))
        least = min(values, key=lambda name: values[name], default=None)
        if own is not None and least is not None and values[least] < 0.8 * own:
            told = {"name": least, "least": text(values[least]), "best": best["name"], "own": text(own)}
            said.append(say(f"advice_{metric}", language, **told))
    return said


def _copies(best: Row, measured: Mapping[tuple[str, str], Row], language: str) -> list[str]:
    row = measured.get((str(best["name"]), "verbatim"))
    real = ((row or {}).get("baseline") or {}).get("value")
    if row is None or real is None or row["value"] <= real + 1:
        return []
    return [say("advice_copies", language, name=best["name"], own=row["value"], real=real)]


def _value(row: Row, metric: str, measured: Mapping[tuple[str, str], Row]) -> float | None:
    found = measured.get((str(row["name"]), metric))
    return None if found is None else float(found["value"])
