"""What of a model's text may be spoken: reasoning, template marks and written tool calls of every family, whole and in
pieces, beside prose that only mentions them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.providers.answers import CUTS, PARIS, PARIS_2, PARIS_AND_TIME, TOOLS, heard
from xiaozhi.providers.families.answer_text import AnswerText
from xiaozhi.providers.families.tool_names import NOTHING_OFFERED, Offer

# --- reasoning and marks ----------------------------------------------------------------------------------------------

SPOKEN: dict[str, str] = {
    # boxes of platforms (Dify before 1.3, Open WebUI)
    '<details style="color:gray;background-color: #f8f8f8;padding: 8px;border-radius: 4px;" open> '
    "<summary> Thinking... </summary>\nThey want <b>two</b> things.</details>\n\nTwo things.": "Two things.",
    '<details type="reasoning" done="true" duration="5">\n<summary>Thought for 5 seconds</summary>\n> Hm.\n</details>\n'
    "So: yes.": "So: yes.",
    "<details open><summary>思考中…</summary>嗯</details>好的。": "好的。",
    "<details> <summary>Thinking...</summary>without end": "",
    "<details><summary>Opening hours</summary>Nine to five.</details> Bye.": (
        "<details><summary>Opening hours</summary>Nine to five. Bye."
    ),
    "Write `<details>` and `</details>` around it.": "Write `<details>` and `</details>` around it.",
    "There are <details": "There are <details",
    # prose
    "plain": "plain",
    "": "",
    "1 < 2 and <b>bold</b>, a<b": "1 < 2 and <b>bold</b>, a<b",
    "x < y > z, [1], [a](http://b) {c} `d`": "x < y > z, [1], [a](http://b) {c} `d`",
    "ends with <thi": "ends with <thi",
    "ends with <|im_": "ends with ",
    "ends with <|im_end|": "ends with ",
    "ends with [INS": "ends with [INS",
    "[Music] and [INSTRUCTIONS]": "[Music] and [INSTRUCTIONS]",
    "<3 is a heart, <- an arrow": "<3 is a heart, <- an arrow",
    # reasoning
    "<think>a</think>b": "b",
    "a <think>b</think> c": "a c",
    "<think>never closed": "",
    "<think></think>": "",
    "<think>\n\n</think>\n\nHello": "Hello",
    "<think>a</think>\n\n<think>b</think>\n\n c": "c",
    "<thinking>a</thinking>b": "b",
    "<THINK>a</THINK>b": "b",
    '<think time="3">a</think>b': "b",
    "<thinking>a</think>b": "b",
    "<think/>b": "b",
    "<thought>a</thought>b": "b",
    "<reasoning>a</reasoning>b": "b",
    "<reflection>a</reflection>b": "b",
    "<scratchpad>a</scratchpad>b": "b",
    "<seed:think>a</seed:think>b": "b",
    "<mm:think>a</mm:think>b": "b",
    "<think:opensource>a</think:opensource>b": "b",
    "◁think▷a◁/think▷b": "b",
    "[THINK]a[/THINK]b": "b",
    "<|begin_of_thought|>a<|end_of_thought|><|begin_of_solution|>b<|end_of_solution|>": "b",
    "<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>b<|END_RESPONSE|>": "b",
    "<|thinking|>a<|/thinking|>b": "b",
    "<|channel>thought\na\n<channel|>b<turn|>": "b",
    "[unused16]a[unused17]b": "b",
    "[THINKING]a[/THINKING]b": "b",
    "[REASONING]a[/REASONING]b": "b",
    "<planning>a</planning>b": "b",
    "<inner_monologue>a</inner_monologue>b": "b",
    "<|im_start|>think\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>": "b",
    "<think>a</think><answer>b</answer>": "b",
    "<think>he said `</think>` here</think>b": "b",
    # reasoning without a beginning
    "a</think>b": "b",
    "First. Second.\n</think>\n\nb": "b",
    "a</thinking>b": "b",
    "a◁/think▷b": "b",
    "a[/THINK]b": "b",
    "</think>b": "b",
    "<think>a</think>b</think>c": "bc",
    # harmony
    "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>": "b",
    "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary<|message|>c<|end|>"
    "<|start|>assistant<|channel|>final<|message|>b": "b",
    "<|start|>assistant<|channel|>final<|message|>b<|end|>": "b",
    "<|channel|>final<|message|>b": "b",
    "<|channel|>analysis<|message|>a": "",
    "analysisThe user says hi.assistantfinalb": "b",
    "analysis用户你好。assistantfinalb": "b",
    "analysis is a word": "analysis is a word",
    "analysis": "analysis",
    # what is left where a server has stripped the marks
    "assistant\n\nb": "b",
    "Assistant: b": "b",
    "### Response:\nb": "b",
    "assistants help": "assistants help",
    "Assistant": "Assistant",
    "### Heading": "### Heading",
    # the template
    "b<|im_end|>": "b",
    "b<|im_end|>\n": "b\n",
    "b<|eot_id|>": "b",
    "b</s>": "b",
    "<s>b</s>": "b",
    "b<|endoftext|>": "b",
    "<|endoftext|>b": "b",
    "b<|endoftext|>Human: what": "b",
    "b<end_of_turn>": "b",
    "<start_of_turn>model\nb": "b",
    "b<|im_end|><|im_start|>user\nc": "b",
    "b<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nc": "b",
    "<|start_header_id|>assistant<|end_header_id|>\n\nb<|eot_id|>": "b",
    "<|im_start|>assistant\nb": "b",
    "b<｜end▁of▁sentence｜>": "b",
    "<｜Assistant｜>b<｜User｜>c": "b",
    "<|assistant|>b<|user|>c": "b",
    "[/INST] b": " b",
    "b [INST] c [/INST] d": "b ",
    "<<SYS>>b<</SYS>>": "b",
    "b<|END_OF_TURN_TOKEN|>": "b",
    "[|assistant|]b[|endofturn|]": "b",
    "[gMASK]<sop>b": "b",
    "b<eos>": "b",
    "<bos>b<pad><unk>": "b",
    "b<|reserved_special_token_3|>": "b",
    "<|begin_of_box|>b<|end_of_box|>": "b",
    "b<end_of_utterance>": "b",
    # the same in prose
    "Write `<think>` and `</think>`.": "Write `<think>` and `</think>`.",
    'It begins with "<think>".': 'It begins with "<think>".',
    "用“<|im_end|>”结束。": "用“<|im_end|>”结束。",
    "In `a <think> b` it is code.": "In `a <think> b` it is code.",
    "```\n<think>\n</s>\n```\nok": "```\n<think>\n</s>\n```\nok",
}


@pytest.mark.parametrize("offer", [NOTHING_OFFERED, TOOLS], ids=["plain", "with tools"])
@pytest.mark.parametrize("text", SPOKEN)
def test_what_is_spoken_however_the_stream_is_cut(text: str, offer: Offer) -> None:
    for size in CUTS:
        assert heard(text, size, offer) == (SPOKEN[text], []), size


def test_text_passes_at_once() -> None:
    answer = AnswerText(TOOLS)
    pieces = ["Hel", "lo ", "there, ", "how ", "are you?", " 1", " < ", "2", "\n", "Fine"]
    assert [answer.feed(piece) for piece in pieces] == pieces
    assert answer.finish() == ""


# --- calls written as text --------------------------------------------------------------------------------------------

JSON = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
WRITTEN: dict[str, list[tuple[str, dict[str, Any]]]] = {
    f"<tool_call>{JSON}</tool_call>": PARIS,
    f"<tool_call>\n{JSON}\n</tool_call>\n<tool_call>\n{{\"name\": \"get_time\"}}\n</tool_call>": PARIS_AND_TIME,
    f"<tool_call>{JSON}<tool_call>": PARIS,
    f"<tool_call>{JSON}": PARIS,
    f"<tool_call>{JSON[:-1]}</tool_call>": PARIS,
    f"<tool_call>{JSON}}}</tool_call>": PARIS,
    f"<tool_call>```json\n{JSON}\n```</tool_call>": PARIS,
    f"<tool_calls>[{JSON}]</tool_calls>": PARIS,
    f"<function_call>{JSON}</function_call>": PARIS,
    f"<TOOLCALL>[{JSON}]</TOOLCALL>": PARIS,
    f"<tools>{JSON}</tools>": PARIS,
    f"<longcat_tool_call>{JSON}</longcat_tool_call>": PARIS,
    f"<|tool_call|>[{JSON}]<|/tool_call|>": PARIS,
    f"<tool_use>{JSON}</tool_use>": PARIS,
    f"[TOOL_REQUEST]{JSON}[END_TOOL_REQUEST]": PARIS,
    f"<|action_start|><|plugin|>\n{JSON}<|action_end|>": PARIS,
    '<tool_call name="get_weather">{"city": "Paris"}</tool_call>': PARIS,
    '<function_call name="get_weather">{"city": "Paris"}</function_call>': PARIS,
    '<tool_call>get_weather(city="Paris")</tool_call>': PARIS,
    "<tool_call>get_weather</tool_call>": [("get_weather", {})],
    '<tool_call>\nname: get_weather\narguments: {"city": "Paris"}\n</tool_call>': PARIS,
    "<｜tool_calls_begin｜><｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name=\"get_weather\">"
    '<steptml:parameter name="city">Paris</steptml:parameter></steptml:invoke><｜tool_call_end｜>'
    "<｜tool_calls_end｜>": PARIS,
    "<get_weather><city>Paris</city></get_weather>": PARIS,
    '<get_weather>{"city": "Paris"}</get_weather>': PARIS,
    '<|FunctionCallBegin|>[{"name":"get_weather","parameters":{"city":"Paris"}}]<|FunctionCallEnd|>': PARIS,
    '<|FunctionCallBegin|>{"name":"get_weather","parameters":{"city":"Paris"}}<|FunctionCallEnd|>': PARIS,
    f"[TOOL_CALLS][{JSON}]": PARIS,
    f"[TOOL_CALLS] [{JSON}]</s>": PARIS,
    '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}': PARIS,
    '[TOOL_CALLS]get_weather{"city": "Paris"}': PARIS,
    '[TOOL_CALLS]get_weather[CALL_ID]a1B[ARGS]{"city": "Paris"}[TOOL_CALLS]get_time[ARGS]{}': PARIS_AND_TIME,
    '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}<|eom_id|>': PARIS,
    '<|python_tag|>get_weather(city="Paris")': PARIS,
    '<|python_start|>[get_weather(city="Paris")]<|python_end|>': PARIS,
    '<|tool_call_start|>[get_weather(city="Paris"), get_time()]<|tool_call_end|>': PARIS_AND_TIME,
    '<function=get_weather>{"city": "Paris"}</function>': PARIS,
    "<function=get_weather><parameter=city>Paris</parameter></function>": PARIS,
    "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>": PARIS,
    "<seed:tool_call><function=get_weather><parameter=city>Paris</parameter></function></seed:tool_call>": PARIS,
    '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Paris</parameter>\n</invoke>\n'
    "</minimax:tool_call>": PARIS,
    '<function_calls><invoke name="get_weather"><parameter name="city">Paris</parameter></invoke>'
    "</function_calls>": PARIS,
    '<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n<｜DSML｜parameter name="city" string="true">Paris'
    '</｜DSML｜parameter>\n<｜DSML｜parameter name="days" string="false">2</｜DSML｜parameter>\n</｜DSML｜invoke>\n'
    "</｜DSML｜function_calls>": PARIS_2,
    "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n</tool_call>": PARIS,
    "<tool_call>get_time\n</tool_call>": [("get_time", {})],
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n"
    '```json\n{"city": "Paris"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>': PARIS,
    '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris"}<｜tool▁call▁end｜>'
    "<｜tool▁call▁begin｜>get_time<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>": PARIS_AND_TIME,
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
    '{"city": "Paris"}<|tool_call_end|><|tool_calls_section_end|>': PARIS,
    "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather "
    '<|constrain|>json<|message|>{"city":"Paris"}<|call|>': PARIS,
    '<|start|>assistant to=functions.get_weather<|channel|>commentary json<|message|>{"city":"Paris"}<|call|>': PARIS,
    'analysisNeed it.assistantcommentary to=functions.get_weather json{"city":"Paris"}': PARIS,
    '<|tool_call>call:get_weather{city:<|"|>Paris<|"|>,days:2}<tool_call|>': PARIS_2,
    "<start_function_call>call:get_weather{city:<escape>Paris<escape>}<end_function_call>": PARIS,
    '<|tools_prefix|>[{"get_weather": {"city": "Paris"}}]<|tools_suffix|>': PARIS,
    '<|START_ACTION|>[{"tool_call_id": "0", "tool_name": "get_weather", "parameters": {"city": "Paris"}}]'
    "<|END_ACTION|>": PARIS,
    '<tool_call>{"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}</tool_call>': PARIS,
    "<tool_call>{'name': 'get_weather', 'arguments': {'city': 'Paris'}}</tool_call>": PARIS,
    '<tool_call>{"name": "functions.get_weather", "arguments": {"city": "Paris"}}</tool_call>': PARIS,
    '<tool_call>{"name": "self.audio.set_volume", "arguments": {"volume": 5}}</tool_call>': [
        ("self_audio_set_volume", {"volume": 5})
    ],
    # without marks
    JSON: PARIS,
    f"[{JSON}]": PARIS,
    f"{JSON}{JSON.replace('Paris', 'Rome')}": [*PARIS, ("get_weather", {"city": "Rome"})],
    f"{JSON}\n{JSON.replace('Paris', 'Rome')}": [*PARIS, ("get_weather", {"city": "Rome"})],
    f"```json\n{JSON}\n```": PARIS,
    f"```\n{JSON}\n```": PARIS,
    f"```tool_call\n{JSON}\n```": PARIS,
    f"```xml\n<tool_call>{JSON}</tool_call>\n```": PARIS,
    '```tool_code\nprint(default_api.get_weather(city="Paris"))\n```': PARIS,
    '```python\nget_weather(city="Paris")\n```': PARIS,
    '{"function_call": {"name": "get_weather", "arguments": {"city": "Paris"}}}': PARIS,
    '{"type": "function", "name": "get_weather", "parameters": {"city": "Paris"}}': PARIS,
    '{"type": "function", "function": {"name": "get_weather", "arguments": "{\\"city\\": \\"Paris\\"}"}}': PARIS,
    '{"tool_calls":[{"id":"1","type":"function","function":{"name":"get_weather","arguments":'
    '"{\\"city\\":\\"Paris\\"}"}}]}': PARIS,
    '{"name": "get_weather", "city": "Paris"}': PARIS,
    '{"tool": "get_weather", "tool_input": {"city": "Paris"}}': PARIS,
    '{"action": "get_weather", "action_input": {"city": "Paris"}}': PARIS,
    '{"get_weather": {"city": "Paris"}}': PARIS,
    '{\n  "name": "get_weather",\n  "arguments": {\n    "city": "Paris"\n  }\n}': PARIS,
    f"functools[{JSON}]": PARIS,
    f"Action: ```json\n[{JSON}]\n```": PARIS,
    'Call: get_weather(city="Paris")': PARIS,
    '>>>get_weather\n{"city": "Paris"}': PARIS,
    "get_weather\n```python\ntool_call(city='Paris')\n```": PARIS,
    'get_weather(city="Paris")': PARIS,
    'get_weather("Paris")': PARIS,
    '[get_weather(city="Paris", days=2)]': PARIS_2,
    'get_weather\n{"city": "Paris"}': PARIS,
    'get_weather {"city": "Paris"}': PARIS,
    'Action: get_weather\nAction Input: {"city": "Paris"}': PARIS,
    '✿FUNCTION✿: get_weather\n✿ARGS✿: {"city": "Paris"}\n✿RESULT✿': PARIS,
    # inside a thought that is never closed
    f"<think>I ask.\n<tool_call>{JSON}</tool_call>": PARIS,
}  # fmt: skip


@pytest.mark.parametrize("text", WRITTEN)
def test_a_call_written_as_text_is_a_call_and_not_spoken(text: str) -> None:
    for size in CUTS:
        said, calls = heard(text, size)
        assert [(call.name, dict(call.arguments)) for call in calls] == WRITTEN[text], size
        assert said.strip() == "" and all(call.known and not call.fault for call in calls), size


MARKED = [
    each for each in WRITTEN if each.startswith(("<", "[TOOL", "analysis")) and not each.startswith("<get_weather")
]


@pytest.mark.parametrize("text", MARKED)
def test_without_tools_on_offer_no_call_is_made_and_marks_are_not_spoken(text: str) -> None:
    for size in (1, 7, 10_000):
        said, calls = heard(text, size, NOTHING_OFFERED)
        assert (said.strip(), calls) == ("", []), size


def test_json_is_text_for_those_who_offer_no_tools() -> None:
    for text in (JSON, f"```json\n{JSON}\n```", f"[{JSON}]"):
        assert heard(text, 3, NOTHING_OFFERED) == (text, [])


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        (f"Let me see. <tool_call>{JSON}</tool_call>", "Let me see. "),
        (f"<think>hm</think>\n\nOne moment.\n{JSON}", "One moment.\n"),
        (f"Sure! {JSON} Done.", "Sure! Done."),
        (f"好的。<|FunctionCallBegin|>[{JSON}]<|FunctionCallEnd|>", "好的。"),
        (f"One moment.\n```json\n{JSON}\n```\n", "One moment.\n"),
        (f"<tool_call>{JSON}</tool_call><|im_end|>", ""),
        # A result that the model made up, and what it says about it.
        (f'<tool_call>{JSON}</tool_call><tool_response>{{"t": 20}}</tool_response>It is 20 degrees.', ""),
        (f"<tool_call>{JSON}</tool_call>\n<|im_start|>user\n<tool_response>20</tool_response>", ""),
    ],
)
def test_what_stands_around_a_call(text: str, spoken: str) -> None:
    for size in CUTS:
        said, calls = heard(text, size)
        assert (said, [(call.name, dict(call.arguments)) for call in calls]) == (spoken, PARIS), size


@pytest.mark.parametrize(
    "text",
    [
        'The tag `<tool_call>{"name": "get_time"}</tool_call>` is a call.',
        'It says "<tool_call>{"name": "get_time"}</tool_call>" there.',
        'It says "<function=get_time></function>" there.',
        "The <tool_call> tag is Qwen's.",
        "<think>a <tool_call>x</tool_call></think>The tag <tool_call> is Qwen's.",
        '{"name": "John", "age": 5}',
        '{"name": "John", "arguments": {"a": 1}}',
        '{"answer": 42}',
        "[1, 2, 3]",
        "[see](http://x) the [1] list",
        "get_weather is a tool.",
        "get_time tells the time.",
        "Action is needed.",
        '```python\nprint("hi")\n```',
        '```json\n{"a": 1}\n```',
        '{"name": "get_weather", "description": "x", "parameters": {"type": "object", "properties": {}}}',
    ],
)
def test_what_is_no_call(text: str) -> None:
    for size in CUTS:
        said, calls = heard(text, size)
        assert said == text.rpartition("</think>")[2] and calls == [], size


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('<tool_call>{"name": "get_weather", "arguments": {"city": "Par', "complete"),
        ('<tool_call>{"name": "get_weather", "arguments": {"days": 5</tool_call>', "complete"),
        ('<tool_call>{"name": "get_weather", "arguments": "Paris"}</tool_call>', "complete"),
        ('<tool_call>{"name": "get_weather", "arguments": [1]}</tool_call>', "no object"),
        ('<tool_call>{"name": "get_weather", "place": "Paris"}</tool_call>', "where they belong"),
        ("<function=get_weather><parameter=city>Par", "cut off"),
        ("<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Par", "cut off"),
        (
            '<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>{"ci',
            "complete",
        ),
        ('[get_weather(city="Par', "cut off"),
        ("get_weather(city=paris)", "plain values"),
        ('<|tool_call>call:get_weather{city:<|"|>Par', "correctly"),
        ('Action: get_weather\nAction Input: {"city": "Par', "complete"),
    ],
)
def test_a_call_that_is_not_understood_is_told_and_has_no_arguments(text: str, why: str) -> None:
    for size in CUTS:
        said, calls = heard(text, size)
        assert said.strip() == "" and len(calls) == 1, size
        assert calls[0].name == "get_weather" and calls[0].arguments == {} and why in calls[0].fault, size


def test_a_call_in_an_answer_that_was_cut_off_must_be_whole() -> None:
    whole = f"<tool_call>{JSON}</tool_call>"
    assert [call.fault for call in heard(whole, cut_off=True)[1]] == [""]
    (call,) = heard(f"<tool_call>{JSON[:-1]}", cut_off=True)[1]
    assert call.arguments == {} and "cut off" in call.fault


def test_a_tool_that_is_not_on_offer_is_reported_in_marks_and_text_without() -> None:
    said, (call,) = heard('<tool_call>{"name": "make_coffee", "arguments": {}}</tool_call>')
    assert said == "" and call.name == "make_coffee" and not call.known and call.fault
