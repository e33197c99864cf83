from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.speech.sentences import HARD_ENDS, MAX_UNITS, SentenceSplitter, units


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
    "text,sentences",
    [
        # initials and abbreviations
        ("A.B. Carter came. He sat.", ["A.B. Carter came.", "He sat."]),
        ("He went from D.C. to the U.S.A. in spring. Ok.", ["He went from D.C. to the U.S.A. in spring.", "Ok."]),
        ("I like D.C. He does too.", ["I like D.C.", "He does too."]),
        ("J. R. R. Tolkien and A. Lee wrote it. Vol. 3 is good.",
         ["J. R. R. Tolkien and A. Lee wrote it.", "Vol. 3 is good."]),
        ("Meet Mr. 李 and Dr.王. 好的.完", ["Meet Mr. 李 and Dr.王.", "好的.", "完"]),
        ("It weighs 5 kg. We lift it. In 1990. We left.", ["It weighs 5 kg.", "We lift it.", "In 1990.", "We left."]),
        ("Call max. 5 on Jan. 3 at approx. 8 a.m. or so. Bye.",
         ["Call max. 5 on Jan. 3 at approx. 8 a.m. or so.", "Bye."]),
        ("Der Zug kommt z. B. am 3. Oktober, d. h. bald. Dr. Maier kam um 8 Uhr. Er kam 1990. Wir gingen.",
         ["Der Zug kommt z. B. am 3. Oktober, d. h. bald.", "Dr. Maier kam um 8 Uhr.", "Er kam 1990.", "Wir gingen."]),
        ("Das ist die Nr. 5 usw. und so. Der 2. Platz ging an Ludwig XIV. von Nord. Ja.",
         ["Das ist die Nr. 5 usw. und so.", "Der 2. Platz ging an Ludwig XIV. von Nord.", "Ja."]),
        ("„Hallo.“ Er ging. »Gut.« Sie auch.", ["„Hallo.“", "Er ging.", "»Gut.«", "Sie auch."]),
        ("M. Dupont et Mme Curie, p. ex. le Dr. Bon, sont là. J.-C. Martin aussi ! Ah ?",
         ["M. Dupont et Mme Curie, p. ex. le Dr. Bon, sont là.", "J.-C. Martin aussi !", "Ah ?"]),
        ("Il a dit « Oui. » Puis « Non ! » Fin.", ["Il a dit « Oui. »", "Puis « Non ! »", "Fin."]),
        ("El Sr. García vive en EE. UU. desde 1990. ¿Qué tal? ¡Bien! No. Sí.",
         ["El Sr. García vive en EE. UU. desde 1990.", "¿Qué tal?", "¡Bien!", "No.", "Sí."]),
        ("Il sig. Rossi è qui. Ma no. E tu?", ["Il sig. Rossi è qui.", "Ma no.", "E tu?"]),
        ("O Sr. Silva mora na Av. Paulista. É bom.", ["O Sr. Silva mora na Av. Paulista.", "É bom."]),
        ("Het is bijv. zo, d.w.z. goed. Ja. Nee.", ["Het is bijv. zo, d.w.z. goed.", "Ja.", "Nee."]),
        ("Pan J. Kowalski mieszka przy ul. Długiej, tj. tu. Tak.",
         ["Pan J. Kowalski mieszka przy ul. Długiej, tj. tu.", "Tak."]),
        ("Dne 3. října přišel p. Novák, tj. on. Ano.", ["Dne 3. října přišel p. Novák, tj. on.", "Ano."]),
        ("Han kom t.ex. den 3. maj hit. Bra.", ["Han kom t.ex. den 3. maj hit.", "Bra."]),
        ("Prof. Dr. Ali geldi. 3. katta vb. şeyler var. Evet.",
         ["Prof. Dr. Ali geldi.", "3. katta vb. şeyler var.", "Evet."]),
        ("TP. Hồ Chí Minh rất đẹp. Tôi là TS. Nam. Vâng.", ["TP. Hồ Chí Minh rất đẹp.", "Tôi là TS. Nam.", "Vâng."]),
        ("Он жил, т. е. был, в г. Москве на ул. Ленина. А. С. Пушкин писал. «Да.» Всё.",
         ["Он жил, т. е. был, в г. Москве на ул. Ленина.", "А. С. Пушкин писал.", "«Да.»", "Всё."]),
        ("Він живе на вул. Лесі, тобто тут. Так.", ["Він живе на вул. Лесі, тобто тут.", "Так."]),
        ("Πού είσαι; Εδώ, π.χ. σήμερα. Ναι.", ["Πού είσαι;", "Εδώ, π.χ. σήμερα.", "Ναι."]),
        # marks of other scripts
        ("मेरा नाम राम है। मैं डॉ. शर्मा हूँ॥ तुम? ठीक।", ["मेरा नाम राम है।", "मैं डॉ. शर्मा हूँ॥", "तुम?", "ठीक।"]),
        ("আমি ডা. রহমান। ভালো।", ["আমি ডা. রহমান।", "ভালো।"]),
        ("میں ٹھیک ہوں۔ آپ؟ جی؛ ہاں۔", ["میں ٹھیک ہوں۔", "آپ؟", "جی؛", "ہاں۔"]),
        ("جاء د. أحمد. كيف حالك؟ نعم!", ["جاء د. أحمد.", "كيف حالك؟", "نعم!"]),
        ("שלום. מה שלומך? טוב׃ כן", ["שלום.", "מה שלומך?", "טוב׃", "כן"]),
        ("Բարեւ։ Ես եմ։", ["Բարեւ։", "Ես եմ։"]),
        ("ሰላም። ደህና፧ አዎ።", ["ሰላም።", "ደህና፧", "አዎ።"]),
        ("မင်္ဂလာပါ။ နေကောင်းလား။", ["မင်္ဂလာပါ။", "နေကောင်းလား။"]),
        ("ខ្ញុំ។ អ្នក៕ ទេ", ["ខ្ញុំ។", "អ្នក៕", "ទេ"]),
        ("བོད།ཡིག", ["བོད།", "ཡིག"]),
        ("สวัสดี๚ ครับ", ["สวัสดี๚", "ครับ"]),
        ("はい｡そう．ですね｡", ["はい｡", "そう．", "ですね｡"]),
        ("안녕하세요. 저는 김 박사. 네? 네!", ["안녕하세요.", "저는 김 박사.", "네?", "네!"]),
        ("ᠮᠣᠩᠭᠣᠯ᠃ ᠪᠢ᠃", ["ᠮᠣᠩᠭᠣᠯ᠃", "ᠪᠢ᠃"]),
        # what is no end
        ("Mail a.b@c.com, see x.org/y.z or v1.2.3. Pay 3,14 or 1.000,50. Ok.",
         ["Mail a.b@c.com, see x.org/y.z or v1.2.3.", "Pay 3,14 or 1.000,50.", "Ok."]),
        ("在12：30或３．１４。", ["在12：30或３．１４。"]),
    ],
)  # fmt: skip
def test_where_sentences_end_in_the_languages_of_the_world(text: str, sentences: list[str]) -> None:
    assert split(text, soft_units=()) == sentences
    assert split(text, 1, soft_units=()) == sentences


@pytest.mark.parametrize("word", ["Sure", "Great", "Yes", "Today", "done", "1990", "好", "Python", "네", "Готово"])
def test_a_word_that_is_no_abbreviation_ends_the_sentence_without_a_wait(word: str) -> None:
    text = f"The answer is {word}." if word.isascii() else f"{word}."
    assert SentenceSplitter(soft_units=()).feed(text + " ") == [text]


def test_marks_that_end_a_sentence_are_those_of_unicode() -> None:
    """Every mark that its name calls a full stop, a question or exclamation mark or a danda is known."""
    named = re.compile(r"\b(FULL STOP|QUESTION MARK|EXCLAMATION MARK|DANDA)\b")
    other = re.compile(r"INVERTED|PRESENTATION FORM|ORNAMENT|ARMENIAN (QUESTION|EXCLAMATION)|COPTIC")
    marks = {
        char
        for char in map(chr, range(0x10000))
        if unicodedata.category(char) == "Po"
        and named.search(name := unicodedata.name(char, ""))
        and not other.search(name)
    }
    assert len(marks) > 30
    assert marks - set(HARD_ENDS) - set(".．﹒") == set()


THAI = "สวัสดีครับ วันนี้อากาศดีมากนะครับ ราคา 50 บาทครับผม ไปเที่ยวกันไหมครับเพื่อน แล้วเจอกันใหม่พรุ่งนี้ตอนเช้านะครับ"


def test_scripts_without_full_stops_are_cut_between_phrases() -> None:
    pieces = split(THAI)
    assert pieces == split(THAI, 1)
    assert pieces[0] == "สวัสดีครับ"
    assert len(pieces) > 2 and all(units(piece) <= 100 for piece in pieces)
    assert " 50 " in "|".join(pieces), "cut beside a number"
    assert "".join("".join(pieces).split()) == "".join(THAI.split())


def test_no_sentence_is_longer_than_voices_take() -> None:
    """Tencent's takes least Chinese (150 characters), Alibaba's least of anything else (300)."""
    assert max(map(len, split("好" * 2000))) <= 150
    assert max(map(len, split("word" * 500))) <= 300


@pytest.mark.parametrize(
    "text,seams",
    [
        ("ที่นี่มีคนเยอะมาก" * 30, r"^[^\u0e31\u0e34-\u0e3a\u0e47-\u0e4e]"),
        ("हिन्दीमेंबिनाविरामकेलिखाहुआ" * 20, r"^[^\u093e-\u094d]"),
        ("བོད་ཡིག་" * 60, r"་$"),
        ("ሰላም፡ለዓለም፡" * 50, r"፡$"),
        ("我喜欢Python和gevent" * 30, r"^(?![a-z])"),
        ("這是一個沒有標點的句子" * 30, r"."),
        ("كلمة، " * 80, r"،$"),
    ],
)
def test_a_text_without_any_end_is_cut_at_a_sensible_place(text: str, seams: str) -> None:
    pieces = split(text, soft_units=())
    assert pieces == split(text, 1, soft_units=())
    assert len(pieces) > 1 and all(units(piece) <= MAX_UNITS for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(re.search(seams, piece) for piece in (pieces[1:] if seams.startswith("^") else pieces[:-1]))


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


ALPHABET = "ab Z1.9,，、。？！?!;；:：~…—\n\"'“”‘’()（）《》你好天JMr .«»„ ग।؟།ก"
WORD_LIST = (
    "Mr. |e.g. |3.14| etc. |No. |p.m.|...|你好|，|。|U.S. |x.com|“|”| |\n|word|A|1|z. B. |am 3. |Oktober |„|« | »|"
    "г. |т. е. |Он |डॉ. |।|ไทย |the |und |J.-|C. "
)
WORDS = WORD_LIST.split("|")
"""Some of them are blank."""
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
