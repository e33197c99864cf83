"""The offline assistant: questions in two languages, tools asked, run and confirmed, honesty about the rest."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.inference import InlineInference
from xiaozhi.chat import CallContext, Message, ToolCall, ToolSpec
from xiaozhi.providers.contracts.provider import Services
from xiaozhi.providers.families.offline_facts import lunar_date, part_of_day, spoken_date, spoken_time
from xiaozhi.providers.llm.offline import LONGEST_USUAL, OfflineLlm, OfflineLlmOptions

CONFIG = Path(__file__).resolve().parents[2] / "config"
NOW = datetime(2026, 11, 20, 15, 5, tzinfo=timezone(timedelta(hours=8)))
CONTEXT = CallContext()


def tool(name: str, **properties: Any) -> ToolSpec:
    return ToolSpec(name, "", {"type": "object", "properties": properties})


STATUS = tool("self_get_device_status")
VOLUME = tool("self_audio_speaker_set_volume", volume={"type": "integer", "minimum": 0, "maximum": 100})
EXIT = tool("handle_exit_intent", say_goodbye={"type": "string"})
STATUS_RESULT = '{"audio_speaker": {"volume": 70}, "battery": {"level": 55, "charging": false}}'


@pytest.fixture
def llm() -> OfflineLlm:
    services = Services(inference=InlineInference(), config_dir=CONFIG, now=lambda: NOW)  # type: ignore[arg-type]
    return OfflineLlm(OfflineLlmOptions(), services, chance=random.Random(1))


def talk(
    llm: OfflineLlm, question: str, tools: Sequence[ToolSpec] = (), results: Sequence[str] = ()
) -> tuple[list[ToolCall], str]:
    """One question with all its rounds: the calls that were made (answered with `results` in turn), and what was said
    in the end."""
    messages = [
        Message("system", "be kind"),
        Message("user", "hello"),
        Message("assistant", "Hello!"),
        Message("user", question),
    ]
    calls: list[ToolCall] = []
    waiting = list(results)
    for _ in range(5):
        answer = list(llm.chat(messages, tools, CONTEXT))
        made = [item for item in answer if isinstance(item, ToolCall)]
        if not made:
            return calls, "".join(item for item in answer if isinstance(item, str))
        calls += made
        if not waiting:
            return calls, ""
        messages.append(Message("assistant", "", tool_calls=tuple(made)))
        messages += [Message("tool", waiting.pop(0), tool_call_id=call.id) for call in made]
    raise AssertionError("it goes round in circles")


@pytest.mark.parametrize(
    "question,answer",
    [
        ("what time is it", "It is 3:05 PM."),
        ("Hey, could you tell me the time please?", "It is 3:05 PM."),
        ("请问现在几点了？", "现在是下午3点05分。"),
        ("what's the date", "Today is Friday, November 20th."),
        ("今天星期几", "今天星期五。"),
        ("今年是哪一年", "今年是二零二六年。"),
        ("what month is it", "It is November."),
        ("今天农历几号", "今天是农历十月十二。"),
        ('{"speaker": "Ann", "content": "what time is it"}', "It is 3:05 PM."),
    ],
)
def test_questions_of_both_languages(llm: OfflineLlm, question: str, answer: str) -> None:
    assert talk(llm, question) == ([], answer)


@pytest.mark.parametrize(
    "question", ["tell me a joke", "讲个笑话", "flip a coin", "掷骰子", "help", "你能做什么", "谢谢", "who are you"]
)
def test_the_answer_is_in_the_language_of_the_question(llm: OfflineLlm, question: str) -> None:
    _, said = talk(llm, question)

    assert any("㐀" <= char <= "鿿" for char in said) is any("㐀" <= char <= "鿿" for char in question)
    assert "{" not in said


@pytest.mark.parametrize(
    "question,language,hint",
    [
        ("what is the weather in london", "", "LLM"),
        ("明天会下雨吗", "", "大模型"),
        ("12345", "zh-CN", "大模型"),
        ("12345", "en", "LLM"),
        ("", "", "LLM"),
        ("set the volume to 150", "", "LLM"),
        ("what is the time in a place far away that nobody can name " * 40, "", "LLM"),
    ],
)
def test_what_is_not_understood_is_said_so(llm: OfflineLlm, question: str, language: str, hint: str) -> None:
    answer = list(llm.chat([Message("user", question)], [VOLUME], CallContext(language=language)))

    assert hint in "".join(map(str, answer))


def test_nothing_asked_is_not_understood_either(llm: OfflineLlm) -> None:
    assert "LLM" in "".join(map(str, llm.chat([], [], CONTEXT)))


def test_it_streams_in_pieces(llm: OfflineLlm) -> None:
    for question in ("help", "帮助"):
        pieces = list(llm.chat([Message("user", question)], [], CONTEXT))
        assert len(pieces) > 10
        assert all(pieces)


# --- tools ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "question,said",
    [
        ("set the volume to 40%", "The volume is now 40."),
        ("please set the volume to forty percent", "The volume is now 40."),
        ("把音量调到百分之四十", "音量已调到40。"),
    ],
)
def test_a_number_reaches_the_device_and_is_confirmed(llm: OfflineLlm, question: str, said: str) -> None:
    calls, answer = talk(llm, question, [STATUS, VOLUME], ["true"])

    assert [(call.name, call.arguments) for call in calls] == [("self_audio_speaker_set_volume", {"volume": 40})]
    assert answer == said


@pytest.mark.parametrize(
    "question,level,wanted",
    [
        ("turn up the volume", 70, 80),
        ("声音小一点", 70, 60),
        ("louder", 95, 100),
        ("quieter please", 3, 0),
        ("声音大一点", 100, 100),
    ],
)
def test_louder_asks_how_loud_it_is_first(llm: OfflineLlm, question: str, level: int, wanted: int) -> None:
    calls, answer = talk(llm, question, [VOLUME, STATUS], [STATUS_RESULT.replace("70", str(level)), "true"])

    assert [call.name for call in calls] == [STATUS.name, VOLUME.name]
    assert calls[1].arguments == {"volume": wanted}
    assert str(wanted) in answer
    assert calls[0].id != calls[1].id


def test_sums_keep_to_the_limits_of_the_tool(llm: OfflineLlm) -> None:
    weak = tool("self_audio_speaker_set_volume", volume={"type": "integer", "minimum": 10, "maximum": 75})

    calls, answer = talk(llm, "louder", [weak, STATUS], [STATUS_RESULT, "true"])

    assert calls[1].arguments == {"volume": 75}
    assert "75" in answer


def test_older_devices_have_other_names_and_answer_in_words(llm: OfflineLlm) -> None:
    tools = [tool("get_speaker_volume"), tool("set_speaker_volume", volume={"type": "integer"})]

    calls, answer = talk(
        llm, "turn down the volume", tools, ["Speaker volume: 50", "Sent to the device: Speaker.SetVolume(volume=40)"]
    )

    assert [call.name for call in calls] == ["get_speaker_volume", "set_speaker_volume"]
    assert "40" in answer


@pytest.mark.parametrize(
    "tools", [[], [STATUS], [tool("self_audio_speaker_set_volume", loudness={"type": "integer"}), STATUS]]
)
def test_a_device_that_cannot_is_told_apart(llm: OfflineLlm, tools: list[ToolSpec]) -> None:
    calls, answer = talk(llm, "set the volume to 40", tools)

    assert (calls, answer) == ([], "This device does not let me change its volume.")


@pytest.mark.parametrize(
    "result", ["error: the device has disconnected", "false", '{"success": false}', '{"isError": true}', "null"]
)
def test_a_deed_that_failed_is_not_confirmed(llm: OfflineLlm, result: str) -> None:
    assert talk(llm, "set the volume to 40", [VOLUME], [result])[1] == "Sorry, the device did not manage to do that."


@pytest.mark.parametrize(
    "result",
    ["", "{}", "[1]", '{"audio_speaker": {"volume": null}}', "error: timeout 3", "{" * 9000, '{"audio_speaker": 3}'],
)
def test_a_status_without_the_value_ends_the_attempt(llm: OfflineLlm, result: str) -> None:
    calls, answer = talk(llm, "louder", [STATUS, VOLUME], [result])

    assert [call.name for call in calls] == [STATUS.name]
    assert answer == "Sorry, the device did not manage to do that."


def test_results_of_earlier_questions_do_not_count(llm: OfflineLlm) -> None:
    before = ToolCall("call_1", VOLUME.name, {"volume": 10})
    messages = [
        Message("user", "set the volume to 10"),
        Message("assistant", "", tool_calls=(before,)),
        Message("tool", "true", tool_call_id="call_1"),
        Message("assistant", "The volume is now 10."),
        Message("user", "set the volume to 20"),
    ]

    (call,) = llm.chat(messages, [VOLUME], CONTEXT)

    assert isinstance(call, ToolCall)
    assert call.arguments == {"volume": 20}


def test_the_confirmation_needs_no_tools_on_offer_any_more(llm: OfflineLlm) -> None:
    call = ToolCall("call_1", VOLUME.name, {"volume": 20})
    messages = [
        Message("user", "set the volume to 20"),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "true", tool_call_id="call_1"),
    ]

    assert "".join(map(str, llm.chat(messages, [], CONTEXT))) == "The volume is now 20."


def test_goodbye_hangs_up_with_its_own_words(llm: OfflineLlm) -> None:
    calls, _ = talk(llm, "goodbye", [EXIT])

    assert [call.name for call in calls] == ["handle_exit_intent"]
    assert "Goodbye" in calls[0].arguments["say_goodbye"]
    assert talk(llm, "再见", [tool("handle_exit_intent")])[0][0].arguments == {}
    assert "Goodbye" in talk(llm, "goodbye")[1]


def test_an_instruction_to_say_goodbye_is_followed_without_hanging_up(llm: OfflineLlm) -> None:
    prompt = "The user has been silent for a long time. Say a short, warm goodbye in the language of this conversation."
    messages = [Message("user", "你好"), Message("assistant", "你好！"), Message("user", prompt)]

    assert "再见" in "".join(map(str, llm.chat(messages, [EXIT], CONTEXT)))
    assert "Goodbye" in talk(llm, prompt, [EXIT])[1]


# --- words for the moment ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hour,minute,english,chinese",
    [
        (0, 0, "12 AM", "凌晨0点整"),
        (0, 30, "12:30 AM", "凌晨0点30分"),
        (7, 9, "7:09 AM", "早上7点09分"),
        (12, 0, "12 PM", "中午12点整"),
        (15, 5, "3:05 PM", "下午3点05分"),
        (23, 59, "11:59 PM", "晚上11点59分"),
    ],
)
def test_the_time_of_day(hour: int, minute: int, english: str, chinese: str) -> None:
    now = datetime(2026, 1, 1, hour, minute, tzinfo=UTC)

    assert spoken_time(now, chinese=False) == english
    assert spoken_time(now, chinese=True) == chinese


@pytest.mark.parametrize(
    "day,ending",
    [(1, "st"), (2, "nd"), (3, "rd"), (4, "th"), (11, "th"), (12, "th"), (13, "th"), (21, "st"), (31, "st")],
)
def test_days_have_their_endings(day: int, ending: str) -> None:
    assert spoken_date(datetime(2026, 1, day, tzinfo=UTC), chinese=False) == f"January {day}{ending}"


def test_the_lunar_calendar() -> None:
    assert lunar_date(datetime(2026, 2, 17, tzinfo=UTC).date(), True) == "正月初一"
    assert lunar_date(datetime(2026, 2, 17, tzinfo=UTC).date(), False) == "day 1 of month 1"
    assert lunar_date(datetime(2025, 7, 26, tzinfo=UTC).date(), False) == "day 2 of leap month 6"


def test_parts_of_the_day_cover_it() -> None:
    parts = {
        (part_of_day(NOW.replace(hour=hour), chinese=False), part_of_day(NOW.replace(hour=hour), chinese=True))
        for hour in range(24)
    }

    assert {english for english, _ in parts} == {"morning", "afternoon", "evening"}
    assert {chinese for _, chinese in parts} == {"凌晨", "早上", "上午", "中午", "下午", "晚上"}


def test_what_matching_needs_is_made_before_the_first_question(tmp_path: Path) -> None:
    (tmp_path / "offline.yaml").write_bytes((CONFIG / "offline.yaml").read_bytes())
    pool = InlineInference()
    llm = OfflineLlm(OfflineLlmOptions(), Services(inference=pool, config_dir=tmp_path, now=lambda: NOW))  # type: ignore[arg-type]
    llm.warm_up()
    assert pool.calls
    pool.full = True
    assert talk(llm, "tern up the volume", [VOLUME, STATUS], [STATUS_RESULT])[0]
    assert talk(llm, "三家五等于多少")[1] == "等于8。"


def test_answers_that_come_again_and_again_are_named_and_stories_are_not(llm: OfflineLlm) -> None:
    usual = llm.traits.usual_replies
    assert talk(llm, "write a poem about the sea")[1] in usual[:2]
    assert talk(llm, "写一首关于大海的诗")[1] in usual[:2]
    assert talk(llm, "再见")[1] in usual
    assert usual.index("好的。") < usual.index("😊 不客气。")
    assert talk(llm, "给我讲个故事")[1] not in usual
    assert talk(llm, "what time is it")[1] not in usual
    assert max(len(text.encode()) for text in usual) <= LONGEST_USUAL
