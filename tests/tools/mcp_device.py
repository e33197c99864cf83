"""A device with tools, as its MCP client sees it."""

from __future__ import annotations

from typing import Any

from tests.tools.fakes import FakeDevice
from tests.waiting import PATIENCE_S
from xiaozhi.runtime.tasks import Tasks
from xiaozhi.tools.device_mcp import DeviceMcp, DeviceMcpLimits

QUICK = DeviceMcpLimits(initialize_timeout=0.02, handshake_timeout=0.02, call_timeout=0.02, relist_seconds=0)


def connect(device: FakeDevice, group: Tasks, **options: Any) -> DeviceMcp:
    device.mcp = DeviceMcp(device.send, group, **options)
    return device.mcp


def ready(device: FakeDevice, group: Tasks, **options: Any) -> DeviceMcp:
    mcp = connect(device, group, **options)
    mcp.start()
    assert group.join(PATIENCE_S)
    return mcp


def names(mcp: DeviceMcp) -> list[str]:
    return [tool.spec.name for tool in mcp.tools()]


def many(count: int) -> list[dict[str, Any]]:
    return [{"name": f"self.tool_{number}", "description": "", "inputSchema": {}} for number in range(count)]
