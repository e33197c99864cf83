"""Calls another device: it says at once who calls, and what the caller wants to be told.

No telephone: sound does not go from device to device, and who is called answers by calling back. Under a console it is
one: the console's MQTT gateway rings, and connects the two when the call is accepted."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, field_validator

from xiaozhi.errors import ProtocolError, ToolError
from xiaozhi.protocol.device_id import checked_device_id
from xiaozhi.tools.base import Action, ToolContext, ToolOptions, ToolOutcome, ToolServices
from xiaozhi.tools.calls import AddressBook, ListedDevices, Rung
from xiaozhi.tools.household import AskingDevice
from xiaozhi.tools.registry import tool

MAX_MESSAGE_CHARS: Final = 300
MAX_NAMES_SHOWN: Final = 30


class CallDeviceOptions(ToolOptions):
    """`plugins.call_device`."""

    devices: dict[str, str] = Field(
        {}, description="Nickname -> device id (MAC address), besides the names that devices have in the console."
    )

    @field_validator("devices")
    @classmethod
    def _are_device_ids(cls, devices: dict[str, str]) -> dict[str, str]:
        try:
            return {nickname: checked_device_id(device) for nickname, device in devices.items()}
        except ProtocolError as error:
            raise ValueError(str(error)) from error

    def words(self) -> dict[str, str]:
        return {"known_names": ", ".join(list(self.devices)[:MAX_NAMES_SHOWN])}


class CallDevice:
    """The tool and its address book."""

    def __init__(self, options: CallDeviceOptions, services: ToolServices) -> None:
        self._console = services.address_book
        self._listed = ListedDevices(options.devices)
        self._ring = services.ring
        self._others = services.others

    @tool("call_device", CallDeviceOptions)
    def call_device(
        self,
        context: ToolContext,
        nickname: Annotated[
            str, Field(description="Who is called, as in the address book 通讯录里的名字: {known_names}", min_length=1)
        ],
        message: Annotated[
            str, Field(description="What to tell them, if the user said it. 要转告的话，没有则留空。")
        ] = "",
    ) -> ToolOutcome:
        """Calls another device of the family by its nickname, or answers one that has called. Call it when the user
        wants to call or tell somebody something. 呼叫通讯录里的另一台设备，或回应来电。"""
        if self._console is not None:
            return self._through_console(self._console, context, nickname)
        device = self._listed.look_up(nickname)
        device = device or self._others.called(AskingDevice(context.device_id, context.client_id), nickname)
        if not device:
            raise ToolError(f"There is nobody called '{nickname[:60]}' in the address book. 通讯录里没有这个名字。")
        if device == context.device_id:
            raise ToolError("That is the name of this very device. 这是本机的名字。")
        match self._ring(device, self._said(context.device_id, message.strip()[:MAX_MESSAGE_CHARS])):
            case Rung.RINGS:
                told = f"已呼叫{nickname}。", f"I have called {nickname}."
            case Rung.BUSY:
                told = f"{nickname}正忙，请稍后再试。", f"{nickname} is busy, try again later."
            case Rung.AWAY:
                told = f"{nickname}现在不在线。", f"{nickname} is not online now."
        return ToolOutcome(Action.SPEAK, told[0] if context.chinese else told[1])

    @staticmethod
    def _through_console(console: AddressBook, context: ToolContext, nickname: str) -> ToolOutcome:
        # Until the connection of a device that was called ends, it can only mean to answer.
        called, device = context.actions.called, context.device_id
        outcome = console.answer(device) if called else console.look_up(device, nickname)
        if outcome.ringing:
            if not called:
                context.actions.keep_line_open()
            return ToolOutcome(Action.NOTHING, outcome.said)
        usual = "呼叫失败，请稍后再试。" if context.chinese else "The call did not go through."
        return ToolOutcome(Action.SPEAK, outcome.said or usual)

    def _said(self, caller: str, message: str) -> dict[str, str]:
        """What the device that is called says."""
        name = self._listed.name_of(caller) or self._others.name_of(caller)
        zh, en = name or "另一台设备", name or "Another device"
        if message:
            return {"zh": f"{zh}来电：{message}", "en": f"{en} calls: {message}"}
        return {"zh": f"{zh}正在呼叫您。", "en": f"{en} is calling you."}
