"""The scripted OpenAI-compatible vendor as a process of its own:

python -m loadtest.vendors --port 9100 --asr-ms 100 --llm-ms 100 --tts-ms 80 --jitter-ms 20 --error-rate 0.01
"""

from gevent import monkey; monkey.patch_all()  # noqa: I001,E702  # fmt: skip

import argparse

from loadtest.vendors.http_vendor import Script
from loadtest.vendors.openai_vendor import ASR, CHAT, DEFAULT_HEARD, DEFAULT_REPLY, TTS, OpenAiVendor


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=9100)
    for kind, milliseconds in (("asr", 100), ("llm", 100), ("tts", 80)):
        parser.add_argument(f"--{kind}-ms", type=float, default=milliseconds, help="delay before the first byte")
    parser.add_argument("--gap-ms", type=float, default=0.0, help="between two pieces of a chat completion")
    parser.add_argument("--jitter-ms", type=float, default=0.0)
    parser.add_argument("--error-rate", type=float, default=0.0, help="share of requests answered with 500")
    parser.add_argument("--reply", default=DEFAULT_REPLY, help="{n} becomes the number of the answer")
    parser.add_argument(
        "--heard", default=DEFAULT_HEARD, help="what utterances are understood as, in turn; | between two"
    )
    parser.add_argument("--pieces", type=int, default=16, help="pieces a chat completion comes in")
    parser.add_argument("--formats", default="opus,wav,pcm", help="sound formats to prepare before listening")
    parser.add_argument("--certfile", help="PEM file; with --keyfile: speak TLS")
    parser.add_argument("--keyfile")
    given = parser.parse_args()
    vendor = OpenAiVendor(
        port=given.port,
        reply=given.reply,
        heard=given.heard,
        pieces=given.pieces,
        error_rate=given.error_rate,
        tls=(given.certfile, given.keyfile) if given.certfile else None,
    )
    jitter = given.jitter_ms / 1000
    vendor.stand(ASR, Script(delay=given.asr_ms / 1000, jitter=jitter))
    vendor.stand(CHAT, Script(delay=given.llm_ms / 1000, jitter=jitter, gap=given.gap_ms / 1000))
    vendor.stand(TTS, Script(delay=given.tts_ms / 1000, jitter=jitter))
    vendor.sounds.prepare(*filter(None, given.formats.split(",")))
    vendor.start()
    print(f"OpenAI-compatible vendor at {vendor.base_url}", flush=True)
    vendor.run_forever()


if __name__ == "__main__":
    main()
