"""Only a clear yes is one."""

from __future__ import annotations

import pytest

from xiaozhi.speech.consent import agrees

YES = """yes|Yes.|yes please|yeah, sure|ok|OK!|okay go ahead|of course you may|please do|no problem|I don't mind, yes
why not|sure, why not|fine|yes, remember it|可以|可以的|好的|好|好呀|行|嗯|嗯嗯|同意|没问题|当然可以|是的|对
我不介意，可以|没有问题|为什么不呢|ja|oui|sí|はい|네"""
NO = """|no|No, thanks|not now|rather not|please don't|don't|I do not want that|never|yes, no, wait|no no|stop
cancel that|what time is it|Anna|tell me a story|voice|maybe|it is not ok
不|不要|不可以|不行|不好|不同意|别|算了|没有|还是不要了|可以不要吗|今天天气怎么样|我叫小明|什么|为什么|不是|我想想
好吃的东西有哪些
yesterday I was at the zoo with my grandmother and we saw an elephant and two monkeys, yes"""


def cases(table: str) -> list[str]:
    return [case for line in table.splitlines() for case in line.split("|")]


@pytest.mark.parametrize("answer", cases(YES))
def test_yes(answer: str) -> None:
    assert agrees(answer)


@pytest.mark.parametrize("answer", cases(NO))
def test_anything_else(answer: str) -> None:
    assert not agrees(answer)
