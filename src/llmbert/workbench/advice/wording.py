"""What a comparison advises, in English and in Chinese."""

from __future__ import annotations

from typing import Any

# (English, Chinese)
WORDS: dict[str, tuple[str, str]] = {
    "end": (".", "。"),
    "ship": (
        "Ship {name}: at {bits:.3f} bits/byte it predicts held-out text best of all with an exact likelihood. It took "
        "{time} to train and takes {disk} on disk{pace}.",
        "推荐 {name}：{bits:.3f} 比特/字节，在给出精确似然的模型中对留出文本预测最好。"
        "训练用时 {time}，占磁盘 {disk}{pace}。",
    ),
    "pace": ("; it writes 100 tokens in {time}", "，写 100 个词元用时 {time}"),
    "no_exact": (
        "No model here gives an exact likelihood in bits/byte, so nothing ranks them; judge them by what they write.",
        "这里没有模型给出以比特/字节计的精确似然，无从排名；只能依其生成的文本判断。",
    ),
    "tie": (
        "The held-out text does not tell {name} from {second}: more of it, or more seeds, would decide.",
        "留出文本不足以区分 {name} 与 {second}：更多留出文本或更多种子才能定论。",
    ),
    "tie_paced": (
        "The held-out text does not tell {name} from {second}, so {name} is the cheaper choice: it writes 100 tokens "
        "in {fast}, {second} in {slow}. More held-out text, or more seeds, would decide.",
        "留出文本不足以区分 {name} 与 {second}，故 {name} 更划算：写 100 个词元用时 {fast}，{second} 则为 {slow}。"
        "更多留出文本或更多种子才能定论。",
    ),
    "counting": (
        "Counting beats learning here: {counted} took {quick}, and {name}, the best that was trained step by step, is "
        "{gap:.3f} bits/byte behind it after {time}.",
        "这里计数胜过学习：{counted} 只用 {quick}，而逐步训练者中最好的 {name} 训练 {time}后"
        "仍落后 {gap:.3f} 比特/字节。",
    ),
    "counting_flat": (
        " Its held-out curve had flattened by the end, so more text or another size is the first thing that may change "
        "that.",
        "其留出曲线到结束时已趋平，最先值得一试的是更多文本或另一规模。",
    ),
    "counting_falling": (
        " Its held-out curve was still falling at the end, so a longer --budget may change that.",
        "其留出曲线结束时仍在下降，更长的 --budget 或可改变这一点。",
    ),
    "counting_rising": (
        " It was better on held-out text earlier in its training than at the end, so more text is the first thing that "
        "may change that.",
        "它在训练中途对留出文本的预测比结束时更好，最先值得一试的是更多文本。",
    ),
    "near": (
        "{name}, which was counted in {quick}, is only {gap:.3f} bits/byte behind {second}: where simplicity counts, "
        "it may do.",
        "{name} 只需计数 {quick}，仅比 {second} 落后 {gap:.3f} 比特/字节：若看重简单，它或已够用。",
    ),
    "falling": (
        "The held-out curve of {name} was still falling at the end: a longer --budget would make it better.",
        "{name} 的留出曲线结束时仍在下降：更长的 --budget 会使其更好。",
    ),
    "rising": (
        "{name} was better on held-out text earlier in its training than at the end: more text or a shorter --budget "
        "may make it better, or dropout or patience where it is trained alone (llmbert train --set patience=…).",
        "{name} 在训练中途对留出文本的预测比结束时更好：更多文本或更短的 --budget 或可使其更好；"
        "单独训练时（llmbert train --set patience=…）也可用 dropout 或提前停止。",
    ),
    "behind": (
        "No better than {baseline} ({bits:.3f}), which needs no training: {names}.",
        "不优于无需训练的“{baseline}”（{bits:.3f}）：{names}。",
    ),
    "bound": (
        "{name} gives a bound only: it needs at most {bits:.3f} bits/byte. Nothing here shows that it is better than "
        "{best}, nor by how much it is worse.",
        "{name} 只给出界：至多需要 {bits:.3f} 比特/字节。这里没有任何数值表明它优于 {best}，也看不出它差多少。",
    ),
    "bound_ahead": (
        "{name} gives a bound only, and yet the bound, {bits:.3f} bits/byte, lies below the figure of {best}: it "
        "predicts held-out text better. Ship it if you can do without exact probabilities.",
        "{name} 只给出界，但其界 {bits:.3f} 比特/字节已低于 {best} 的数值：它对留出文本预测更好。"
        "若不需要精确概率，可用它。",
    ),
    "collapsed": (
        "The latent variable of {name} has collapsed: it is a plain language model that takes more to run.",
        "{name} 的隐变量已坍缩：它只是一个更费资源的普通语言模型。",
    ),
    "none": (
        "{name} gives no text a probability, so only what it writes can be judged",
        "{name} 不给出文本的概率，只能依其生成的文本判断",
    ),
    "pseudo": (
        "{name} gives a pseudo-likelihood only, which ranks with nothing else here; what it writes can be judged",
        "{name} 只给出伪似然，不能与其他模型排名；但可依其生成的文本判断",
    ),
    "conditional": (
        "{name} was asked for what had been taken out of held-out text, given the rest: {nats:.3f} nats/token. That "
        "ranks with nothing but others that were asked the same; it is a base for training on pairs.",
        "{name} 的任务是根据其余文本恢复留出文本中被删去的部分：{nats:.3f} 纳特/词元。此值只能与任务相同的模型比较；"
        "它可作为以成对文本训练的起点。",
    ),
    "texts": (
        ": its reverse score is {own:.2f} beside {real:.2f} of as much real text, that of {best} {other:.2f} beside "
        "{other_real:.2f}, ",
        "：其反向得分为 {own:.2f}（等量真实文本为 {real:.2f}），{best} 则为 {other:.2f}（{other_real:.2f}），",
    ),
    "texts_behind": ("so it covers less of the language.", "故它覆盖的语言较少。"),
    "texts_ahead": ("so it covers more of the language.", "故它覆盖的语言较多。"),
    "texts_alike": (
        "so the two cover about as much of the language: no more than {margin:.0%} lies between them, which may be "
        "chance.",
        "相差不超过 {margin:.0%}，可能出于偶然，故两者覆盖的语言大致相当。",
    ),
    "texts_chance": (
        "but the intervals over their seeds meet, so the difference may be chance.",
        "但两者在各种子上的区间有重叠，差异可能出于偶然。",
    ),
    "milliseconds": (
        "If speed decides, take {name}: it writes 100 tokens in {least}, {best} in {own}; it needs {gap:.3f} bits/byte "
        "more.",
        "若速度优先，可选 {name}：写 100 个词元用时 {least}，{best} 则为 {own}；代价是多 {gap:.3f} 比特/字节。",
    ),
    "bytes_on_disk": (
        "If size decides, take {name}: it takes {least} on disk, {best} {own}; it needs {gap:.3f} bits/byte more.",
        "若体积优先，可选 {name}：占磁盘 {least}，{best} 则为 {own}；代价是多 {gap:.3f} 比特/字节。",
    ),
    "copies": (
        "Of what {name} writes {own:.1f} % stands in the training text word for word, of held-out text {real:.1f} %: "
        "do not ship it where that text must not come out.",
        "{name} 生成的文本有 {own:.1f}% 与训练文本逐字相同，留出文本则为 {real:.1f}%：若训练文本不得外泄，请勿使用。",
    ),
    "overlap": (
        "{shared:.0%} of the held-out tokens lie in stretches that the training text has too, which favours whoever "
        "learns by heart: hold out other text (--valid) before you decide.",
        "{shared:.0%} 的留出词元位于训练文本也有的片段中，这偏向死记硬背者：定夺之前请另取留出文本（--valid）。",
    ),
    "seeds": (
        "Each model was trained once: --seeds 3 would show how much of the order is the luck of a seed, which the "
        "intervals do not cover.",
        "每个模型只训练了一次：--seeds 3 可看出名次有多少出于种子的运气，区间并不涵盖这一点。",
    ),
    "seeds_same": (
        "With its worst of {seeds} seeds {first} is still ahead of the best of {second}.",
        "{first} 在 {seeds} 个种子中最差的一次仍领先于 {second} 最好的一次。",
    ),
    "seeds_differ": (
        "{first} is ahead of {second} in {ahead} of {pairs} pairs of their seeds: the order may be the luck of a seed.",
        "双方种子两两相比，{first} 领先于 {second} 的有 {ahead}/{pairs}：名次可能出于种子的运气。",
    ),
    "failed": ("{name} could not be trained: {error}.", "{name} 未能训练：{error}。"),
}


def say(key: str, language: str, **values: Any) -> str:
    """The words for `key` in "en" or "zh", with values filled in."""
    return WORDS[key][language == "zh"].format(**values)
