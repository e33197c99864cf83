"""Orders that pretend to come from the management API: refused in constant shape, at once, without a trace of a secret
in log or answer."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.stage import Stage, ask
from tests.robustness.conftest import SETTINGS, Talking
from tests.robustness.logbook import SAID, SECRET, Logbook
from xiaozhi.runtime.guesses import FREE

RIGHT = SETTINGS["server"]["secret"]
WRONG: tuple[Any, ...] = (
    "",
    " ",
    "x",
    RIGHT[:-1],
    RIGHT + " ",
    RIGHT.upper(),
    f"{SECRET}\0",
    SECRET * 5000,
    "管理",
    "0",
)
NO_SECRETS: tuple[Any, ...] = (None, 0, 1, True, [], [RIGHT], {}, {"secret": RIGHT}, 1e308)


def test_wrong_secrets(stage: Stage, witness: Talking, book: Logbook) -> None:
    """Every one is answered with the same refusal; none restarts or reloads anything."""
    device = stage.device()
    with witness():
        for action in ("restart", "update_config", "shutdown", "; rm -rf /", "__class__"):
            for secret in WRONG:
                device.tell("server", action=action, content={"secret": secret})
                reply = device.next_json("server").data
                assert (reply["status"], reply["content"]) == ("error", {"action": action})
                assert SECRET not in json.dumps(reply)
                # Ends the wait of the console's page; it is about no action.
                assert "content" not in device.next_json("server").data
        assert ask(device, f"{SAID} still up").stt == f"{SAID} still up"
    assert not stage.server.stop_wanted
    assert stage.server.restart_wanted is False
    assert stage.count("xiaozhi_reloads_total", result="accepted") == 0
    assert book.lines["server command refused"] > 0


def test_secrets_that_are_none(stage: Stage, witness: Talking) -> None:
    """What is no text is no secret; nor is a command without one, or with the right one in the wrong place."""
    device = stage.device()
    with witness():
        for secret in NO_SECRETS:
            device.tell("server", action="restart", content={"secret": secret})
            device.tell("server", action=secret, content={"secret": RIGHT})
        device.tell("server", action="restart")
        device.tell("server", action="restart", secret=RIGHT)
        device.tell("server", action="restart", content=[RIGHT])
        device.tell("server", content={"secret": RIGHT})
        device.ping()
        device.ping()
    replies = [message.data for message in device.replies.messages if message.type == "server"]
    assert {reply["status"] for reply in replies if "content" in reply} == {"error"}
    assert not stage.server.stop_wanted


def test_many_guesses_at_once(stage: Stage, witness: Talking) -> None:
    """A thousand guesses do not pile up, most are not even compared, and the session is none the worse."""
    device = stage.device()
    before = stage.count("xiaozhi_wrong_secrets_total", door="server_message")
    with witness():
        for number in range(1000):
            device.tell("server", action="update_config", content={"secret": f"{SECRET}-{number}"})
        device.ping()
        assert ask(device, f"{SAID} after that").stt == f"{SAID} after that"
    assert stage.count("xiaozhi_reloads_total", result="accepted") == 0
    compared = stage.count("xiaozhi_wrong_secrets_total", door="server_message") - before
    assert FREE <= compared <= 2 * FREE


def test_the_right_secret_with_a_wrong_action(stage: Stage) -> None:
    device = stage.device()
    device.tell("server", action="explode", content={"secret": RIGHT})

    reply = device.next_json("server").data

    assert reply["status"] == "error" and "explode" in reply["message"]
