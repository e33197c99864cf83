from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi.speech.cleanup import speakable
from xiaozhi.speech.transcripts import KEPT_REPEATS, MAX_CHARS, MAX_REPEATS, heard


@pytest.mark.parametrize(
    "text",
    [
        # nothing, and marks
        None, "", " \n", "。", "...", "？", "，。", "…", "-", "!!!", "、", "ーーー", "🎵", "😀",
        # labels
        "[BLANK_AUDIO]", "(silence)", "[Music]", "*coughs*", "[ Silence ]", "(upbeat music)", "（笑）",
        "【音乐】", "♪", "♪♪",
        "♪ la la ♪", "{noise}", "[Music] (applause).", "(hello)", "[S1]", "(speaking in foreign language)",
        # marks of the model
        "<|nospeech|>。", "<|zh|><|NEUTRAL|><|BGM|>", "<unk>", "</s>", "<s></s>", "<｜end｜>",
        # credits of subtitles
        "字幕由Amara.org社区提供", "Sous-titres réalisés par la communauté d'Amara.org",
        "Субтитры сделал DimaTorzok",
        "Untertitel im Auftrag des ZDF für funk, 2017", "请不吝点赞 订阅 转发 打赏支持明镜与点点栏目",
        "Altyazı M.K.",
        "Subtitles by the Amara.org community", "MBC 뉴스 이덕영입니다.",
        "Napisy stworzone przez społeczność Amara.org",
    ],
)  # fmt: skip
def test_nothing_was_said(text: str | None) -> None:
    assert heard(text) == heard(text, weak=True) == ""


@pytest.mark.parametrize(
    "text",
    [
        "Thank you for watching!", "Thank you.", "Thanks for watching.", "you", "Bye-bye!", "谢谢观看！",
        "謝謝大家。", "再见。",
        "ご視聴ありがとうございました。", "시청해 주셔서 감사합니다.", "Merci d'avoir regardé cette vidéo !",
        "Vielen Dank.",
        "¡Suscríbete al canal!", "Продолжение следует...", "Obrigado.", "Grazie a tutti.", "Dziękuję.",
        "شكرا للمشاهدة",
    ],
)  # fmt: skip
def test_polite_phrases_are_nothing_when_hardly_any_voice_was_heard(text: str) -> None:
    assert heard(text) == text
    assert heard(text, weak=True) == ""


@pytest.mark.parametrize(
    "text",
    [
        "打开灯", "嗯。", "好", "OK.", "Yes", "はい", "네", "1 2 3", "88888888", "打八八八八八八八八",
        "哈哈哈哈", "no no no no",
        "What is 2*3*4?", "(5+3)乘以2等于多少", "call John (the boss)", "打开www.google.com", "你好，小智。",
        "C'est la vie.",
        "Add subtitles by tomorrow", "字幕是什么", "MBC 뉴스 틀어줘", "what is amara", "五", "3.14",
        "turn it up, up, up, up",
        "می‌خواهم", "ठीक है", "ขอบคุณมากครับพี่",
    ],
)  # fmt: skip
def test_what_was_said_is_heard(text: str) -> None:
    assert heard(text) == heard(text, weak=True) == text


@pytest.mark.parametrize(
    "text,words",
    [
        ("(upbeat music) Turn on the light.", "Turn on the light."),
        ("打开灯（笑）", "打开灯"),
        ("[Music] 打开灯", "打开灯"),
        ("<|zh|><|HAPPY|><|Speech|>你好", "你好"),
        ("🎼你好😊", "你好"),
        ("。你好。", "你好。"),
        ("I said [pause] yes *laughs*", "I said yes"),
        ("  two\n lines ", "two lines"),
    ],
)
def test_labels_beside_speech_go(text: str, words: str) -> None:
    assert heard(text) == heard(text, weak=True) == words


@pytest.mark.parametrize(
    "text,words",
    [
        ("hello " * 4_000, "hello hello hello"),
        ("你好，" * 3_000, "你好，你好，你好，"),
        ("好" * 20, "好好好"),
        ("Tell me a story. " + "thank you " * 50, "Tell me a story. thank you thank you thank you"),
        ("Go. " + "one two three four " * 20 + "Stop.", "Go. " + "one two three four " * 3 + "Stop."),
    ],
)
def test_loops_are_cut(text: str, words: str) -> None:
    assert heard(text) == words
    assert heard(text, weak=True) == ""


def test_repeating_a_word_a_few_times_is_no_loop() -> None:
    assert heard("very " * MAX_REPEATS + "good") == "very " * MAX_REPEATS + "good"
    assert heard("very " * (MAX_REPEATS + 1) + "good") == "very " * KEPT_REPEATS + "good"
    assert heard("0" * 3 + " " + "8 " * 11).count("8") == 11, "digits of a number"


PARTS = ["a", "好", "。", " ", "[x]", "(", ")", "*", "♪", "<|", "nospeech", "|>", "1"]


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PARTS)).map("".join)))
def test_what_is_heard_has_a_word_and_is_heard_again(text: str) -> None:
    words = heard(text)
    assert words == "" or (speakable(words) and words == words.strip())
    assert len(heard(text * 200)) <= MAX_CHARS
