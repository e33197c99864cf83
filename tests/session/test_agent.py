"""An agent belongs to those who hold it."""

from __future__ import annotations

from tests.fakes.sessions import make_agent
from xiaozhi.session.agent import Agent


def test_the_last_holder_closes_the_door() -> None:
    unused: list[Agent] = []
    agent = make_agent(on_unused=unused.append)

    assert agent.hold() is agent
    agent.release()
    assert unused == []
    agent.release()

    assert unused == [agent]


def test_an_agent_may_live_as_long_as_the_process() -> None:
    agent = make_agent()

    agent.release()
    agent.close()

    assert agent.holders.count == 0


def test_agents_with_the_same_content_are_two() -> None:
    agent = make_agent()

    assert len({agent, make_agent()}) == 2
