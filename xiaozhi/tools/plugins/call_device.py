"""Calls another device: it says at once who calls, and what the caller wants to be told.

No telephone: sound does not go from device to device (an MQTT gateway does that for devices behind it). Who is called
answers by calling back."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, field_validator

from xiaozhi.errors import ProtocolError, ToolError
from xiaozhi.protocol.device_id import checked_device_id
from xiaozhi.tools.base import Action, ToolContext, ToolOptions, ToolOutcome, ToolServices
from xiaozhi.tools.calls import ListedDevices, Rung
from xiaozhi.tools.registry import tool

MAX_MESSAGE_CHARS: Final = 300
MAX_NAMES_SHOWN: Final = 30


class CallDeviceOptions(ToolOptions):
    """`plugins.call_device`."""

    devices: dict[str, str] = Field({}, description="Nickname -> device id (MAC address).")

    @field_validator("devices")
    @classmethod
    def _are_device_ids(cls, devices: dict[str, str]) -> dict[str, str]:
        try:
            return {nickname: checked_device_id(device) for nickname, device in devices.items()}
        except ProtocolError as error:
            raise ValueError(str(error)) from error

    def missing(self) -> str:
        return "" if self.devices else "devices: is empty; list the devices as nickname: device id"

    def words(self) -> dict[str, str]:
        return {"known_names": ", ".join(list(self.devices)[:MAX_NAMES_SHOWN])}


class CallDevice:
    """The tool and its address book."""

    def __init__(self, options: CallDeviceOptions, services: ToolServices) -> None:
        self._book = services.address_book or ListedDevices(options.devices)
        self._ring = services.ring
        self._dial = services.dial

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
        if self._dial is not None:
            rings, said = self._dial(context.device_id, nickname)
            told = (
                (f"已呼叫{nickname}。", f"I have called {nickname}.")
                if rings
                else ("呼叫没有成功。", "The call failed.")
            )
            return ToolOutcome(Action.SPEAK, said if said and not rings else told[0] if context.chinese else told[1])
        device = self._book.look_up(context.device_id, nickname)
        if not device:
            raise ToolError(f"There is nobody called '{nickname[:60]}' in the address book. 通讯录里没有这个名字。")
        if device == context.device_id:
            raise ToolError("That is the name of this very device. 这是本机的名字。")
        match self._ring(device, self._said(device, context.device_id, message.strip()[:MAX_MESSAGE_CHARS])):
            case Rung.RINGS:
                told = f"已呼叫{nickname}。", f"I have called {nickname}."
            case Rung.BUSY:
                told = f"{nickname}正忙，请稍后再试。", f"{nickname} is busy, try again later."
            case Rung.AWAY:
                told = f"{nickname}现在不在线。", f"{nickname} is not online now."
        return ToolOutcome(Action.SPEAK, told[0] if context.chinese else told[1])

    def _said(self, device: str, caller: str, message: str) -> dict[str, str]:
        """What the device that is called says."""
        name = self._book.name_of(device, caller)
        zh, en = name or "另一台设备", name or "Another device"
        if message:
            return {"zh": f"{zh}来电：{message}", "en": f"{en} calls: {message}"}
        return {"zh": f"{zh}正在呼叫您。", "en": f"{en} is calling you."}
