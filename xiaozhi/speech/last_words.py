"""Whether somebody has finished, by the last words of what was recognised so far: the text witness of the end of a
turn.

Pure: a small scored table per language, no model. `finished` gives a score from -1 (more is to come: "turn on the") to
1 (that was all: "what time is it?"); 0 where the words show nothing, and for languages without a table. What a score
does to a silence is decided in `end_of_turn.py`.

The table is read from the end of the text: the first of these that applies decides.

1. Marks with which recognisers write that a voice broke off: "...", a dash, a comma.
2. Hesitations: "um", 那个.
3. A number that waits for its unit: "for twenty", 定一个十.
4. Words that open something: conjunctions, articles, prepositions, 把, 因为; "the" is never the last word.
5. Words that close something: 吗, 吧, "please", "thank you".
6. An article or a possessive and then what only describes: "a small", "my new".
7. A clause that waits for its main clause: "if it rains", 如果明天下雨.
8. A question mark, then a full stop, behind more than the fewest words. Recognisers write them behind fragments as
   well, and behind the shortest ones more often than behind what is complete ("Can I get?"). Some Chinese ones write
   full stops behind everything, so there they count for nothing.

Before all of these but marks and numbers come short texts that are complete ("next song", 下一首), which are listed,
and whole orders to a device ("turn on the light", 把灯打开).

How much each is worth was measured with transcripts of people who pause (docs/performance.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class _Table:
    """Endings and their scores; the longest ending that matches decides. `spaced`: endings are whole words. `alone`:
    whole texts and their scores. `short`: in words, or in characters where words are not spaced. `fragment`: the score
    of other texts that are no longer, whatever mark they have."""

    endings: Mapping[str, float]
    spaced: bool
    alone: Mapping[str, float]
    short: int
    fragment: float
    question: float
    stop: float
    number: re.Pattern[str]
    """Matches a text that ends with a number that waits for its unit."""
    command: re.Pattern[str]
    """Matches a text whose last sentence is a whole order to a device: marks or not, it counts as much as a stop."""
    clause: re.Pattern[str]
    """Matches a text whose last sentence is a clause that waits for its main clause: "if it rains"."""
    noun: re.Pattern[str] | None = None
    """Matches a text that ends with words in front of a noun."""


def _scored(*rows: tuple[float, str]) -> dict[str, float]:
    return {ending.replace("_", " "): score for score, endings in rows for ending in endings.split()}


_ENGLISH: Final = _Table(
    endings=_scored(
        # Hesitations.
        (-1.0, "um uh er erm hmm hm mm like well so you_know i_mean let_me_see let_me_think sort_of kind_of"),
        # Conjunctions.
        (-1.0, "and or but because cause if when while although though unless until since that than as whether nor"),
        (
            -1.0,
            "and_then so_that as_well_as and_it but_it if_it because_it so_it when_it that_it and_you but_you if_you",
        ),
        (-1.0, "because_you and_that but_that and_where and_what and_how and_why"),
        # Articles, possessives and what stands in front of a noun.
        (-1.0, "the a an my your our their its his every some any this these those no another other next"),
        # "his", "this", "that", "some" and the like may stand alone at the end of a question or an order.
        (-0.5, "this that these those some any his other another next no each both either neither several many"),
        # Prepositions that nobody ends with, and those that may end a question.
        (-1.0, "of from into onto during between among without against toward towards within per via about_the"),
        (-1.0, "upon despite except including regarding beneath beyond beside throughout"),
        (-0.6, "to at by with for about like under above below behind near through across along before after"),
        (0.0, "in on off up down out over around like_that like_this"),
        # Pronouns as the beginning of a clause, auxiliaries.
        (
            -1.0,
            "i we he she they who which whose i'm i'll i'd i've we're they're you're it's that's there's here's he's "
            "let's we'd we'll you'd you'll he'll she'll they'll it'll what's who's where's how's",
        ),
        (-0.6, "i_think i_guess i_believe i_hope i_say he_said she_said"),
        (
            -1.0,
            "am is are was were be been being will would shall should could may might must can't cannot don't didn't",
        ),
        (-0.6, "not wasn't rather can do does did has have had isn't won't wouldn't doesn't"),
        (-1.0, "want need going_to want_to need_to have_to like_to please_tell tell_me_about how_about what_about"),
        (-1.0, "you_tell_me could_you can_you would_you could_you_please can_you_please would_you_please"),
        # Verbs that wait for their object; a question may end with one ("how long does it take?").
        (-0.8, "get give make take put tell bring send add create find buy let keep set turn switch remind show"),
        (
            -0.8,
            "get_me give_me make_me bring_me show_me send_me remind_me let_me ask_me tell_us tell_him tell_her let_us",
        ),
        (0.0, "my_turn your_turn"),
        (
            -1.0,
            "slightly considerably even very really quite too_much_of more_of a_lot_of lots_of also just maybe only",
        ),
        (-1.0, "therefore almost nearly hardly dr mr mrs ms"),
        (-0.8, "never perhaps usually simply merely somewhat extremely particularly especially"),
        (0.0, "the_well as_well very_well"),
        # What closes.
        (1.0, "please thanks thank_you now today tomorrow again stop okay ok yes yeah nope goodbye bye"),
        (1.0, "is_it was_it are_you that_so that's_it that's_all that_is_all never_mind good_morning good_night"),
    ),
    spaced=True,
    alone=_scored(
        (1.0, "next_song next_one go_on go_ahead carry_on shut_up be_quiet volume_up volume_down lights_on lights_off"),
        (1.0, "good_afternoon good_evening hello hi sure right exactly really why of_course not_now pause mute"),
        (1.0, "continue louder quieter skip_it play_it do_it try_again repeat help cancel"),
    ),
    short=2,
    fragment=0.0,
    question=1.0,
    stop=0.8,
    number=re.compile(
        r"\b(?:for|in|another)(?: an?)? (?:\d+|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|"
        r"fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|"
        r"hundred|thousand)$|\b(?:hundred|thousand) and$|\d[.,]$|\bpoint$"
    ),
    command=re.compile(
        r"(?:^|[.?!,] )(?:please |can you |could you |would you )*(?:"
        r"(?:turn|switch) (?:on|off|up|down) (?:\w+ )+?(?:lights?|lamps?|fan|heater|heating|tv|radio|music|volume|"
        r"alarm)|"
        r"(?:turn|switch) (?:the|my|all|that|it|this) ?(?:\w+ )*?(?:on|off|up|down)|"
        r"(?:play|open|close|stop|pause|mute|dim|start) (?:\w+ )+?(?:music|songs?|radio|news|curtains?|blinds?|door|"
        r"window|lights?|alarm|timer))$"
    ),
    clause=re.compile(
        r"(?:^|[.?!] )(?:and |but |so )?(?:if|when|while|although|though|because|since|unless|until|once|whenever|"
        r"as soon as|as long as|even if)(?! (?:is|are|was|were|do|does|did|will|would|can|could|should)\b) [^,.?!]+$"
    ),
    noun=re.compile(
        r"\w's$|\b(?:an?|the|my|your|our|their|its|some|any|another|every|each|with)"
        r"(?: (?:small|big|large|huge|long|short|new|old|young|good|great|nice|bad|hot|warm|cool|dark|bright|loud|"
        r"quiet|soft|hard|easy|difficult|single|double|triple|medium|extra|black|white|red|blue|green|yellow|brown|"
        r"grey|gray|pink|purple|strong|different|whole|main|local|favou?rite|simple|special|certain|few|beautiful|"
        r"important|famous|funny|free|real|next|following|deep|high|low|fast|slow|fresh|public|human|english|chinese|"
        r"french|german))+$"
    ),
)
_CHINESE: Final = _Table(
    endings=_scored(
        # Hesitations.
        (-1.0, "嗯 呃 额 啊这 那个 这个 就是 就是说 怎么说 怎么说呢 然后呢就 我想想 让我想想"),
        # Conjunctions, adverbs that wait for a verb.
        (-1.0, "和 跟 与 或 或者 还有 以及 然后 因为 所以 但是 可是 不过 而且 并且 如果 要是 虽然 尽管 即使 只要 只有"),
        (
            -1.0,
            "除了 为了 关于 对于 由于 既然 无论 不管 而 且 但 并 及 因 若 虽 也 就 都 还 又 再 才 只 很 太 最 更 非常",
        ),
        # Prepositions and verbs that wait for their object.
        (-1.0, "把 被 给 让 叫 请 从 向 往 对 比 按 按照 根据 通过 在 到 帮 帮我 给我 请帮我 我想 我要 想要 我想要"),
        (-1.0, "能不能 可不可以 是不是 有没有 我觉得 我认为 我希望 告诉我 请问 麻烦 打开 关闭 播放 设置 提醒我"),
        # A measure or an attribute without its noun.
        (-1.0, "一个 一首 一下子 一些 这些 那些 每个 某个 几个 两个 三个 第 的一个 的是 这是 那是 我是 他是 就像"),
        (-0.3, "的 地 得 是 要 会 能 想 说 有 用"),
        (0.3, "好的 是的 真的 有的 我的 你的 他的 她的 对的 行的 可以的 没事的"),
        # What closes.
        (1.0, "吗 吧 呢 啊 呀 啦 嘛 了吗 好吗 行吗 好不好 行不行 对不对 怎么样 怎么办 是什么 为什么 多少 几点 几点了"),
        (1.0, "在哪里 在哪儿 是谁 什么意思 谢谢 谢谢你 再见 拜拜 你好 可以了 好了 算了 没了 不用了 就这样 就这些 停"),
        (0.6, "了 一下 什么 哪里 谁"),
    ),
    spaced=False,
    alone=_scored(
        (1.0, "是的 好的 对的 可以 不行 不要 不用 不是 没有 没事 当然 早上好 晚上好 晚安 早安 几号 星期几"),
        (1.0, "下一首 上一首 换一首 继续 暂停 停止 停下 开始 关灯 开灯 静音 大声点 小声点 大点声 小点声 大一点 小一点"),
        (1.0, "闭嘴 安静 退出 取消 确定 确认 重复 帮助 讲故事 讲笑话 放音乐 听音乐 听歌 唱歌 唱首歌"),
        # Answers, or the first word of one.
        (0.0, "对 是 好 行 不"),
    ),
    short=3,
    fragment=-0.3,
    question=1.0,
    stop=0.0,
    command=re.compile(
        r"(?:^|[。？！，?!, ])(?:请|麻烦)?你?(?:帮我|给我)?(?:"
        r"(?:打开|关闭|关掉|关上|开|关|播放|放|来|讲|说|唱|听|设置|设|定|订).*?(?:灯|空调|窗帘|风扇|电视|音乐|首歌|的歌|歌曲|"
        r"闹钟|笑话|故事|新闻|收音机|插座)|"
        r"把.+(?:打开|关掉|关上|关闭|[调开][大小高低亮暗])|.*[大小高低亮暗快慢]一?点|.*[0-9一二三四五六七八九十]度|"
        r".+百分之[0-9一二三四五六七八九十百]+)$"
    ),
    clause=re.compile(
        r"(?:^|[。？！?! ])(?:如果|要是|假如|因为|虽然|尽管|只要|除非|当)"
        r"(?:(?![就那所也还都才，。？！,?! ]|吗|呢|什么|多少|怎).)+$"
    ),
    number=re.compile(r"(?:[定设过等]|再过|定一个|设一个|来一个)(?:[0-9]+|[一二三四五六七八九十百两半]+)$|第$"),
)
_TABLES: Final[Mapping[str, _Table]] = {"en": _ENGLISH, "zh": _CHINESE}
LANGUAGES: Final = tuple(_TABLES)
"""Those with a table."""

_BROKEN_OFF: Final = re.compile(r"(?:\.\.\.|…|[-–—,，、;；:：])\W*$")
_COMMAND: Final = 0.8
_CLAUSE: Final = -0.8
_COMMA: Final = -0.8
"""Some recognisers write one behind an end as well."""
_MARKS: Final = " \t\n.。!！?？\"'”’)）』」*"
_SPACES: Final = re.compile(r"\s+")
_LONGEST: Final = {
    name: max((len(ending) for ending in table.endings if not table.spaced), default=0)
    for name, table in _TABLES.items()
}
_MOST_WORDS: Final = 3
_TAIL: Final = 80
"""Characters that are looked at."""


def finished(text: str, language: str) -> float:
    """The score of a text in one of `LANGUAGES`; 0.0 for an empty one and for other languages."""
    table = _TABLES.get(language)
    tail = text[-_TAIL:].strip()
    if table is None or not tail:
        return 0.0
    if (broken_off := _BROKEN_OFF.search(tail)) is not None:
        return _COMMA if broken_off.group()[0] in ",，" else -1.0
    marked, words = (
        tail.rstrip("\"'”’)）』」* "),
        _SPACES.sub(" ", tail.strip(_MARKS).casefold().replace("\u2019", "'")),
    )
    asks = marked.endswith(("?", "？"))
    if not asks and table.number.search(words) is not None:
        return -1.0
    if words in table.alone:
        return table.alone[words]
    if table.command.search(words) is not None:
        return _COMMAND
    ending = _ending(words, table, _LONGEST[language])
    if ending is not None and not (asks and ending > -1.0):
        return ending
    if not asks and table.clause.search(words) is not None:
        return _CLAUSE
    if table.noun is not None and table.noun.search(words) is not None:
        return -1.0
    if ending is None and (len(words.split(" ")) if table.spaced else len(words)) <= table.short:
        return table.fragment
    if asks:
        return table.question
    return table.stop if marked.endswith((".", "。", "!", "！")) else 0.0


def _ending(words: str, table: _Table, longest: int) -> float | None:
    """The score of the longest ending of `words` in the table."""
    if table.spaced:
        last = words.split(" ")[-_MOST_WORDS:]
        keys = (" ".join(last[at:]) for at in range(len(last)))
    else:
        keys = (words[-length:] for length in range(min(longest, len(words)), 0, -1))
    return next((table.endings[key] for key in keys if key in table.endings), None)
