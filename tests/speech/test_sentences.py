from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.speech.sentences import MAX_UNITS, SentenceSplitter, units


def split(text: str, size: int = 0, **options: object) -> list[str]:
    """Feed `text` in pieces of `size` characters (0: at once), then flush."""
    splitter = SentenceSplitter(**options)  # type: ignore[arg-type]
    found: list[str] = []
    for start in range(0, len(text), size or max(1, len(text))):
        found += splitter.feed(text[start : start + (size or len(text))])
    return found + splitter.flush()


@pytest.mark.parametrize(
    "text,sentences",
    [
        ("你好。我是小智！你呢？好；行：完", ["你好。", "我是小智！", "你呢？", "好；", "行：", "完"]),
        ("One. Two! Three? Four; five\nSix", ["One.", "Two!", "Three?", "Four;", "five", "Six"]),
        ("Pi is 3.14 or so. Next.", ["Pi is 3.14 or so.", "Next."]),
        (
            "Ask Mr. Smith and Dr. J. Brown, e.g. today. Then go.",
            ["Ask Mr. Smith and Dr. J. Brown,", "e.g. today.", "Then go."],
        ),
        ("See example.com or v1.2.3 now. Ok.", ["See example.com or v1.2.3 now.", "Ok."]),
        ("It was 5 p.m. We left. At 5 a.m. it rained.", ["It was 5 p.m.", "We left.", "At 5 a.m. it rained."]),
        (
            "Take apples, pears, etc. and go. Etc. Then stop.",
            ["Take apples,", "pears, etc. and go.", "Etc.", "Then stop."],
        ),
        ("No. I will not. No. 5 is alive.", ["No.", "I will not.", "No. 5 is alive."]),
        ("1. First point. 2. Second point.", ["1. First point.", "2. Second point."]),
        ("Well... Maybe. Or… not.", ["Well... Maybe.", "Or… not."]),
        ("他说：“你好！”然后走了。", ["他说：", "“你好！”", "然后走了。"]),
        ('He said "Go!" and left. "Yes." Good.', ['He said "Go!"', "and left.", '"Yes."', "Good."]),
        ("现在是12：30。", ["现在是12：30。"]),
        ("版本3.5很好.真的", ["版本3.5很好.", "真的"]),
        ("！？……", ["！？……"]),
        ("", []),
        (" \n \n", []),
    ],
)
def test_where_sentences_end(text: str, sentences: list[str]) -> None:
    assert split(text) == sentences
    assert split(text, 1) == sentences


@pytest.mark.parametrize(
    "text,first",
    [
        ("没问题，我来帮你看一下今天的天气。", "没问题，"),
        ("好的，我来帮你看一下今天的天气。", "好的，我来帮你看一下今天的天气。"),
        ("Of course, here is the weather for today.", "Of course,"),
        ("Yes, here is the weather for today.", "Yes, here is the weather for today."),
        ("哈哈哈哈~真有意思。", "哈哈哈哈~"),
        ("苹果香蕉、梨子。", "苹果香蕉、"),
        ("It has 1,000,000 inhabitants, more or less.", "It has 1,000,000 inhabitants,"),
    ],
)
def test_only_the_first_sentence_may_end_at_a_comma_and_is_not_absurdly_short(text: str, first: str) -> None:
    assert split(text)[0] == first
    # Once something has been said, such a comma is just a comma.
    assert split("Hi there. Hi again. " + text)[2:] == [text]


def test_the_first_sentence_is_out_before_the_stream_goes_on() -> None:
    splitter = SentenceSplitter()
    assert splitter.feed("没问题") == []
    assert splitter.feed("，") == ["没问题，"]
    assert splitter.feed("我马上查。") == ["我马上查。"]


def test_after_a_flush_the_next_answer_begins_with_a_short_sentence_again() -> None:
    splitter = SentenceSplitter()
    assert splitter.feed("第一句话。第二句话。") == ["第一句话。", "第二句话。"]
    assert splitter.flush() == []
    assert splitter.feed("没问题，") == ["没问题，"]


@pytest.mark.parametrize("unit", ["很", "word ", "abcdefghij", "字，", "one, two "])
def test_a_sentence_without_end_is_cut(unit: str) -> None:
    text = unit * 400
    pieces = split(text, soft_units=())
    assert all(units(piece) <= MAX_UNITS for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    if " " in unit:
        assert all(piece.split()[0] in unit.split() for piece in pieces), "cut inside a word"
    if "，" in unit:
        assert all(piece.endswith("，") for piece in pieces)


@pytest.mark.parametrize("size", [0, 1, 3])
def test_protected_phrases_are_never_cut(size: int) -> None:
    text = "他住在北京，上海之间。Washington, D.C. is far away, my friend."
    assert "北京，上海" in split(text, size, protect=["北京，上海"])[0]
    assert split(text, size)[0] == "他住在北京，"
    # A phrase that begins but does not go on is no reason to wait for ever.
    assert split("他住在北京，上", size, protect=["北京，上海"]) == ["他住在北京，", "上"]


ALPHABET = "ab Z1.9,，、。？！?!;；:：~…—\n\"'“”‘’()（）《》你好天JMr ."
WORDS = "Mr. |e.g. |3.14| etc. |No. |p.m.|...|你好|，|。|U.S. |x.com|“|”| |\n|word|A|1".split("|")  # noqa: SIM905  some of them are blank
texts = st.one_of(
    st.text(alphabet=ALPHABET, max_size=120),
    st.text(max_size=60),
    st.lists(st.sampled_from(WORDS), max_size=40).map("".join),
)


def cut_somewhere(data: st.DataObject, text: str) -> list[str]:
    """`text` cut into pieces at random places; some of them may be empty."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@given(st.data(), texts, st.sampled_from([30, MAX_UNITS]), st.sampled_from([(), ("你，好", "a, b", "1. 9", "。？")]))
def test_the_way_the_stream_is_cut_changes_nothing(
    data: st.DataObject, text: str, max_units: int, protect: tuple[str, ...]
) -> None:
    pieces = cut_somewhere(data, text)
    splitter = SentenceSplitter(max_units=max_units, protect=protect)
    found = [sentence for piece in pieces for sentence in splitter.feed(piece)] + splitter.flush()
    assert found == split(text, max_units=max_units, protect=protect)
    assert found == split(text, 1, max_units=max_units, protect=protect)


@given(texts)
def test_nothing_is_lost_and_nothing_is_said_twice(text: str) -> None:
    found = split(text, 2)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(sentence and sentence == sentence.strip() for sentence in found)


@given(texts)
def test_a_splitter_is_as_new_after_a_flush(text: str) -> None:
    splitter = SentenceSplitter()
    first = splitter.feed(text) + splitter.flush()
    assert splitter.feed(text) + splitter.flush() == first
