"""PyAV is there for those who decode, before they do it in a pool thread, and costs nobody else its memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOADED = """
from gevent import monkey; monkey.patch_all()
import sys
{imports}
print("av" in sys.modules)
"""


@pytest.mark.parametrize(
    ("imports", "expected"),
    [
        ("import xiaozhi.app.server, xiaozhi.providers.tts.local_neural, xiaozhi.providers.tts.espeak", False),
        ("import xiaozhi.providers.sound", True),
        ("from xiaozhi.audio.decode import decoder_for; decoder_for('mp3', 16_000)", True),
    ],
)
def test_only_what_decodes_loads_pyav(imports: str, expected: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(imports=imports)], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout.strip() == str(expected), done.stderr
