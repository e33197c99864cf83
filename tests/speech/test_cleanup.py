from __future__ import annotations

import emoji
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.speech.cleanup import SLICE_CHARS, CorrectWords, ReplyText, slices, speakable
from xiaozhi.speech.markup import CODE_NOTICE_EN, CODE_NOTICE_ZH, SpeechCleaner
from xiaozhi.speech.sentences import Sentence
from xiaozhi.speech.tidy import SIGNS


def clean(text: str, size: int = 0) -> str:
    """Feed `text` in pieces of `size` characters (0: at once), then flush."""
    cleaner = SpeechCleaner()
    step = size or max(1, len(text))
    return "".join(cleaner.feed(text[start : start + step]) for start in range(0, len(text), step)) + cleaner.flush()


def speak(text: str, **options: object) -> list[Sentence]:
    """All sentences of a reply."""
    reply = ReplyText(**options)  # type: ignore[arg-type]
    return reply.feed(text) + reply.flush()


NUMBERS = "Call +86 138-0013-8000 or (010) 6552-9988, 3.14 km² at 25 °C, 1,000.5 €, 50%"


@pytest.mark.parametrize(
    "text,spoken",
    [
        # emphasis
        ("**bold** and *it* and __b__ and _i_ and ~~gone~~", "bold and it and b and i and gone"),
        ("**重点**很多", "重点很多"),
        ("3 * 4 = 12 and 2*3 and 2**10", "3 * 4 = 12 and 2*3 and 2**10"),
        ("snake_case stays, __init__ loses", "snake_case stays, init loses"),
        ("好的~马上", "好的~马上"),
        # blocks
        ("# Title\n## 二级\n###third\ntext", "Title\n二级\nthird\ntext"),
        ("#1 is a number", "#1 is a number"),
        ("- one\n* two\n+ three\n  - four\n• five\n1. six", "one\ntwo\nthree\nfour\nfive\n1. six"),
        ("- [ ] open\n- [x] done\n- [y] odd", "open\ndone\n[y] odd"),
        ("-5 degrees\n--verbose", "-5 degrees\n--verbose"),
        ("a\n\n---\n\n***\n___\n=====\nb", "a\nb"),
        ("> quoted\n> > twice", "quoted\ntwice"),
        # code
        ("Use `a_b*c` now", "Use a_b*c now"),
        ("``x`y`` z", "xy z"),
        ("never `closed\n**bold**", "never closed\nbold"),
        ("See:\n```python\nprint(1)\n```\nDone", f"See:\n{CODE_NOTICE_EN}\nDone"),
        ("看代码：\n~~~\nx\n~~~\n完\n```\ny\n```\n了", f"看代码：\n{CODE_NOTICE_ZH}\n完\n了"),
        ("See ```x = 1``` here", f"See\n{CODE_NOTICE_EN}\nhere"),
        ("See\n```\nnever closed", f"See\n{CODE_NOTICE_EN}\n"),
        ("A poem:\n```text\nroses\n```\nand\n~~~markdown\n**red**\n~~~\nend", "A poem:\nroses\nand\nred\nend"),
        # links and URLs
        ("[the docs](https://x.org/a_(b) \"t\") say", "the docs say"),
        ("![a cat](c.png) [![badge](b.svg)](x) [https://www.a.org/b](https://a.org)", "a cat badge a.org"),
        ("Look at https://www.github.com/a/b?c=d. Then go", "Look at github.com. Then go"),
        ("去（https://example.com/路径）看", "去（example.com路径）看"),
        ("看https://example.com/a，好", "看example.com，好"),
        ("<https://a.org/x> and **http://b.org:80/**", "a.org and b.org"),
        ("www.example.com, awww", "example.com, awww"),
        ("note[^1] and fact[2] and a [bracket] and x[1]", "note and fact and a [bracket] and x[1]"),
        ("事实[1]。", "事实。"),
        ("So it is [1][2]. And[3-5] so [citation:3] 好[citation:12]", "So it is. And so 好"),
        ("Fact[1,2]. See [doc1] and [[3]](https://a.org/x) or", "Fact. See and or"),
        ("So 【1†source】 or 【4:0†a b.pdf】.", "So or."),
        ("引用【12】。【注意】", "引用。【注意】"),
        ("Paris \ue200cite\ue202turn0search1\ue201 is big", "Paris is big"),
        ("a list [1, 2, 3] and a[0] and [0]", "a list [1, 2, 3] and a[0] and [0]"),
        ("[the docs][1] say\n[^1]: a note\n[1]: https://a.org/b", "the docs say\na note\na.org"),
        ("[not a link\nnext]", "[not a link\nnext]"),
        ("<me@example.com> or a_b.c@d-e.org, [mail](mailto:x@y.z)", "me@example.com or a_b.c@d-e.org, mail"),
        # tables
        ("| a | **b** |\n|---|:-:|\n| 1 |  |\n| 甲 | 乙 |\n", "a, b\n1\n甲，乙\n"),
        ("a | b\n--- | ---\n1 | 2", "a, b\n1, 2"),
        ("┌───┬───┐\n│ a │ b │\n├───┼───┤\n│ 1 │ 2 │\n└───┴───┘\nend", "a, b\n1, 2\nend"),
        ("│ box │", "box"),
        ("├── src\n│   └── main.py\n████ 50%", "src\nmain.py\n50%"),
        ("然后──他走了", "然后——他走了"),
        ("| Wi-Fi | ✅ |\n| GPS | ✗ |", "Wi-Fi, ✓\nGPS, ✗"),
        # HTML, entities, escapes
        ("one<br>two<br/>three <b>four</b> <a href=\"x\">five</a>", "one\ntwo\nthree four five"),
        ("<tr><td>1</td><td>2</td></tr>", "1, 2\n"),
        ("a<b and c>d, x < y, <unknown>", "a<b and c>d, x < y, <unknown>"),
        ("a&amp;b &lt;think&gt; R&D &nbsp;x", "a&b <think> R&D x"),
        ("a &#8212; b &mdash; c &#x27;d&#x27; &hearts; &bogus; AT&T&", "a — b — c 'd' &bogus; AT&T&"),
        ('<speak>Hi <break time="1s"/><emphasis level="strong">you</emphasis></speak>', "Hi you"),
        ('<mstts:express-as style="sad">Oh</mstts:express-as> <say-as interpret-as="date">1.5.</say-as>', "Oh 1.5."),
        ("<answer>Yes.</answer> <!-- not\nthis --> <section>No.</section>", "Yes.\nNo.\n"),
        # formulas
        ("$E=mc^2$ and $x$, $5 and $6, $5/$6, $HOME is. US$5", "E=mc² and x, $5 and $6, $5/$6, $HOME is. US$5"),
        (r"\(\frac{1}{2}\) or \[\sqrt{x+1}\leq 90^\circ\]", "1/2 or √(x+1)≤ 90°"),
        (r"$$\alpha\times 10^{-3}$$ $\sum_{i=1}^{n} \frac{a+b}{2}$", "α× 10⁻³ ∑_(i=1)ⁿ (a+b)/2"),
        (r"bare \frac{a}{b} \times 3, \$5, C:\text is", "bare a/b × 3, $5, C:\\text is"),
        ("$$$ and $$ open", "$ and open"),
        # line breaks that were escaped once too often
        (r"第一行\n第二行\n\nC:\new", "第一行\n第二行\nC:new"),
        (r"\*not\* \_this\_ \(x\) \[y\] 5\% C:\new", "*not* _this_ x y 5% C:new"),
        ("costs $5, $$E$$", "costs $5, E"),
        # reasoning
        ("<think>I should\n\nsay hi</think>\n\nHi.", "Hi."),
        ("<think></think>Hi <THINKING>x</THINKING>there", "Hi there"),
        ("left over</think>Hi", "left overHi"),
        ("<think>never closed", ""),
        # punctuation, white space, what nobody can say
        ("Wow!!! Really?!?! 好！！！对。。。嗯，，是", "Wow! Really? 好！对。嗯，是"),
        ("Wait... what…… no....", "Wait… what… no…"),
        ("a -- b ---- c —— d ————— e", "a -- b -- c —— d —— e"),
        ("  a \t b  \r\n\r\n  c  ", "a b\nc"),
        ("a\x00b\x07c\u200bd\ufeffe\ue000f\ud800g", "abcdefg"),
        ("二○二六年，100℃，①", "二○二六年，100℃，①"),
        ("Voilà ! 好 ！a != b ;", "Voilà ! 好！a != b ;"),
        ("好的！(｡•̀ᴗ-)✧ (ಥ_ಥ) (εω)", "好的！ (εω)"),
        ("می\u200cخواهم، ක්\u200dෂ, a\u200db 好\u200d好", "می\u200cخواهم، ක්\u200dෂ, ab 好好"),
        ("Good (^_^) and （≧▽≦） 好(>_<)! (5+3) (…) (100%) (a_b) (!)", "Good and 好! (5+3) (…) (100%) (a_b) (!)"),
        (NUMBERS, NUMBERS),
        ("★★★★☆ (4/5), ⭐⭐ ✔️ ❌", "★★★★☆ (4/5), ★★ ✓ ✗"),
        ("سلام؟؟ ठीक।। ነው።።", "سلام؟ ठीक। ነው።"),
        ("Hi 😀. 好 😀。", "Hi. 好。"),
        ("Hi 😀👍🏽 there 👨‍👩‍👧! 🇨🇳❤️ 1️⃣", "Hi there! 1"),
        ("", ""),
    ],
)  # fmt: skip
def test_what_is_left_to_say(text: str, spoken: str) -> None:
    assert clean(text) == spoken
    assert clean(text, 1) == spoken


@pytest.mark.parametrize(
    "text",
    ["Hello", "你好，", "Really!", "It is 5 ", "What a day; ", "完了。", "好~ ", "the end\n", "word) ", "**bold** "],
)
def test_plain_words_are_not_kept_waiting(text: str) -> None:
    cleaner = SpeechCleaner()
    assert cleaner.feed(text).rstrip(" ") == text.replace("*", "").rstrip(" ")


WITHOUT_SIGNS = str.maketrans("", "", SIGNS)
LETTERS = "©®™ℹ↔↕↖↗↘↙↩↪‼⁉Ⓜ"


def test_every_emoji_is_silent() -> None:
    said = {one: clean(f"a{one}b") for one in emoji.EMOJI_DATA}
    # Keycaps are digits with a box around them, a few emoji are letters that text is written with, and some are signs
    # that are shown.
    loud = {
        one
        for one, text in said.items()
        if text.translate(WITHOUT_SIGNS) != "ab" and not one[0].isascii() and not set(one) & set(LETTERS)
    }
    assert loud == set()


def test_code_is_mentioned_once_per_reply() -> None:
    reply = ReplyText()
    said = [
        sentence.display
        for sentence in [*reply.feed("```\na\n```\n"), *reply.flush(), *reply.feed("```\nb\n```\nEnd."), *reply.flush()]
    ]
    assert said == [CODE_NOTICE_EN, "End."]


def test_the_first_sentence_of_a_reply_comes_early_through_the_whole_pipeline() -> None:
    reply = ReplyText()
    assert reply.feed("<think>hm") == reply.feed("m</th") == reply.feed("ink>\n\n😀") == []
    assert reply.emotion.name == "happy"
    assert reply.feed("**没问题**") == []
    assert reply.feed("，") == [Sentence("没问题，", "没问题，")]
    assert reply.feed("马上。") == [Sentence("马上。", "马上。")]


def test_sentences_without_words_are_not_spoken() -> None:
    assert speak("……\n!!!\n”\n---\n😀\n好。”。？") == [Sentence("好。", "好。")]
    assert speak("") == []


@pytest.mark.parametrize(
    "text,sentences,only_shown",
    [
        ("😀", [], "😀"),
        ("👍🏽❤️!", [], "👍🏽❤️"),
        ("(^_^)", [], "(^_^)"),
        ("★★★★☆", [], "★★★★☆"),
        ("Stars:\n★★★★☆", ["Stars:"], "★★★★☆"),
        ("★★★\nGood. 😀", ["★★★ Good."], ""),
        ("Yes. ✓ No. ✗", ["Yes.", "✓ No."], "✗"),
        ("~5 minutes. 好~~~真的。~~", ["~5 minutes.", "好~真的。"], ""),
        ("!!! ?? Ok. a != five. 对 ！", ["Ok.", "a != five.", "对！"], ""),
        ("呃。好。", ["呃。 好。"], ""),
        ("呃", [], "呃"),
        ("......", [], ""),
        ("ーーー。いい。", ["ーーー。 いい。"], ""),
    ],
)
def test_what_cannot_be_said_is_shown_and_no_voice_is_asked(text: str, sentences: list[str], only_shown: str) -> None:
    reply = ReplyText(correct_words=["呃|"])
    said = reply.feed(text) + reply.flush()
    assert [sentence.display for sentence in said] == sentences
    assert reply.only_shown == only_shown
    assert all(speakable(sentence.spoken) for sentence in said)
    assert not set(SIGNS) & set("".join(sentence.spoken for sentence in said))
    assert reply.feed("Again.") + reply.flush() == [Sentence("Again.", "Again.")]
    assert reply.only_shown == ""


@pytest.mark.parametrize("text", ["a", "好", "5", "①", "½", "ก", "ㅋㅋ", "100℃"])
def test_speakable(text: str) -> None:
    assert speakable(f"“{text}”！")


@pytest.mark.parametrize("text", ["", " ", "。", "?!", "😀", "★", "ーー", "---", "€", "♪", "^_^", "ˇ"])
def test_not_speakable(text: str) -> None:
    assert not speakable(text)


@pytest.mark.parametrize(
    "display,subtitle",
    [
        ("你好，", "你好"),
        ("你好。", "你好"),
        ("太好了！", "太好了"),
        ("你呢？", "你呢？"),
        ("Well...", "Well"),
        ("“好。”", "“好。”"),
        ("Really?", "Really?"),
        ("- Milk;", "Milk"),
        ("ठीक।", "ठीक"),
        ("نعم؟", "نعم؟"),
        ("-5 °C", "5 °C"),
        ("3.14", "3.14"),
        ("……", "……"),
    ],
)
def test_a_subtitle_has_no_punctuation_at_its_ends(display: str, subtitle: str) -> None:
    assert Sentence(display, display).subtitle == subtitle


@given(st.text(max_size=50))
def test_slices_are_the_text(text: str) -> None:
    long = text * 200
    assert "".join(slices(long)) == long
    assert all(0 < len(part) <= SLICE_CHARS for part in slices(long))


def test_the_emotion_is_the_first_emoji_else_a_guess_else_happy() -> None:
    reply = ReplyText()
    assert reply.emotion.name == "happy"
    reply.feed("I am so sorry about that. What")
    assert reply.emotion.name == "sad"
    reply.feed("😂 But really. 😭 a pity")
    assert reply.emotion.name == "funny"
    hidden = ReplyText()
    hidden.feed("<think>😂</think>```\n😭\n```\nThe sky is blue.\n")
    assert hidden.emotion.name == "happy"


def test_correct_words_change_what_is_spoken_and_not_what_is_shown() -> None:
    words = ["小智|小志", "AI|A I", "行长|航长", "小智能|小只能", "北京，上海|京沪", "no bar", "|x"]
    reply = ReplyText(correct_words=words)
    found = (
        reply.feed("我是小")
        + reply.feed("智，SAID and A")
        + reply.feed("I，小智能。去北京，")
        + reply.feed("上海。")
        + reply.flush()
    )
    assert "".join(sentence.display for sentence in found) == "我是小智，SAID and AI，小智能。去北京，上海。"
    assert "".join(sentence.spoken for sentence in found) == "我是小志，SAID and A I，小只能。去京沪。"
    assert CorrectWords(words).rejected == ("no bar", "|x")


ALPHABET = "ab1 *_~`#-=+|>[](){}!<>/\\&;:.,，。！~$hw\n\t😀❤️你好\"'tpsk^│─【】†★✔\u200dख?（）@"
MARKS = (
    "<think> </think> <b> <br /> <a%href='x' ``` ~~~ ` `` ** * _ [a]( "
    "[b] ![c] ) http://a.b https: //x.y/z. www. | \n| |---| \n-% [%]% "
    "\n#% &amp; &l t; \\ $$ ... !! 。。 % \n 😀 word 你好 1 — --- [1] [^1] x%=%y "
    "│%a%│ ┌── 【1†s】 [citation:3] [2][3] [1,%2] &#8212; &#x2 014; <speak> <break%time='1s'/> <!-- --> <a@b.c> "
    "$x^2$ $5 "
    "\\( \\) \\frac{1}{2} \\n \\times ```text\n ★ (^_^) (> _<) می\u200cخ ठीक। \ue200x \ue201 i.e. Dr. [a][1] | ~~~md\n"
)
"""Separated by spaces; % stands for one."""
texts = st.one_of(
    st.text(alphabet=ALPHABET, max_size=80),
    st.text(max_size=40),
    st.lists(st.sampled_from([mark.replace("%", " ") for mark in MARKS.split(" ")]), max_size=30).map("".join),
)


@given(st.data(), texts)
def test_the_way_the_stream_is_cut_changes_nothing(data: st.DataObject, text: str) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    cleaner = SpeechCleaner()
    assert "".join(map(cleaner.feed, pieces)) + cleaner.flush() == clean(text) == clean(text, 1)
    reply, whole = ReplyText(correct_words=["你好|您好", "a, b|ab"]), ReplyText(correct_words=["你好|您好", "a, b|ab"])
    cut = [sentence for piece in pieces for sentence in reply.feed(piece)] + reply.flush()
    assert cut == whole.feed(text) + whole.flush()
    assert reply.emotion == whole.emotion


@given(texts)
def test_what_is_left_is_tidy_and_every_sentence_has_a_word(text: str) -> None:
    left = clean(text)
    assert not emoji.distinct_emoji_list(left.translate({ord(char): None for char in LETTERS}))
    assert "  " not in left and "\n\n" not in left and "\r" not in left and "！！" not in left
    for sentence in speak(text):
        assert any(char.isalnum() for char in sentence.display)
        assert sentence.display == sentence.display.strip()
        sentence.display.encode()  # no lone surrogates


@given(st.text(alphabet="abcdefg你好天气，。,? \n", max_size=100))
def test_plain_text_is_spoken_whole(text: str) -> None:
    letters = [char for char in text if char.isalnum()]
    assert [char for sentence in speak(text) for char in sentence.spoken if char.isalnum()] == letters


@pytest.mark.parametrize(
    "pieces,first_at",
    [
        (["没", "问题", "，", "我", "马上"], 2),
        (["好的", "。", "我"], 1),
        (["你好", "！"], 1),
        (["Of course", ",", " here is"], 1),
        (["Sure", "!", " I can"], 1),
        (["Sure", ".", " I", " can"], 2),
        (["It is five", ".", " ", "Then"], 3),
        (["See", " this?", " (yes"], 1),
        (["It costs $5", ".", " Ok"], 2),
        (["ठीक है", "।", " मैं"], 1),
        (["نعم", "؟", " ا"], 1),
    ],
)
def test_the_first_sentence_waits_for_no_more_than_it_must(pieces: list[str], first_at: int) -> None:
    reply = ReplyText()
    assert next(index for index, piece in enumerate(pieces) if reply.feed(piece)) == first_at


MARKED = st.sampled_from(
    ["**{}**", "`{}`", "[{}](http://a.b)", "| {} |", "({})", "“{}”", "# {}", "- {}", "$ {}", "<b>{}</b>", "{}"]
)


@given(
    st.lists(
        st.tuples(st.sampled_from(["hello", "你好", "नमस्ते", "مرحبا", "3.14", "a@b.cc", "Straße", "สวัสดี"]), MARKED),
        max_size=12,
    )
)
def test_no_word_is_lost_in_markup(parts: list[tuple[str, str]]) -> None:
    text = "\n".join(mark.format(word) for word, mark in parts)
    spoken = " ".join(sentence.spoken for sentence in speak(text))
    for word, _ in parts:
        assert word in spoken
        spoken = spoken.replace(word, "", 1)


@pytest.mark.parametrize("size", [1, 3, 1_000])
@pytest.mark.parametrize(
    "text,sentences",
    [
        # initials, abbreviations
        ("A.B. Carter", ["A.B. Carter"]),
        ("A.B. Carter is here. So is C. D. Miller.", ["A.B. Carter is here.", "So is C. D. Miller."]),
        ("D.C. to the U.S.A. in spring.", ["D.C. to the U.S.A. in spring."]),
        ("From D.C. to the U.S.A. in spring. Good.", ["From D.C. to the U.S.A. in spring.", "Good."]),
        # leftovers of markup
        ("│ box │", ["box"]),
        ("That is so【1†source】. And so [citation:3].", ["That is so.", "And so."]),
        ("It&#8212;well&#8230; is <break/>fine (^_^).", ["It—well… is fine."]),
        (r"The area is \(\pi r^2\). Good.", ["The area is π r².", "Good."]),
        # full stops of other scripts
        ("मेरा नाम राम है। मैं दिल्ली में रहता हूँ। आप?", ["मेरा नाम राम है।", "मैं दिल्ली में रहता हूँ।", "आप?"]),
        ("می\u200cخواهم بروم. باشه؟", ["می\u200cخواهم بروم.", "باشه؟"]),
    ],
)  # fmt: skip
def test_inputs_of_public_reports_are_spoken_right(text: str, sentences: list[str], size: int) -> None:
    reply = ReplyText()
    said = [sentence for start in range(0, len(text), size) for sentence in reply.feed(text[start : start + size])]
    assert [sentence.spoken for sentence in said + reply.flush()] == sentences
