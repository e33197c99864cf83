"""Simulated devices, scripted vendors, and measurements of a server with both: `python -m loadtest --help`.

    bench ▸ measure ▸ report ▸ simulator | vendors       imports go from left to right

Outside `bench/`, which times the product's own parts, nothing here knows more of the server than its wire: any server
that speaks the protocol can be measured, and a fault in the product cannot hide in what tests it."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
"""The tree this is part of."""
