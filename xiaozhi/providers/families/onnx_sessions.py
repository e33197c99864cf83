"""Models in ONNX files, run by onnxruntime on one thread: parallelism is the inference pool's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def open_session(path: Path) -> Any:
    """An `onnxruntime.InferenceSession`; imports the library, for which the hub stands still. Raises what it raises."""
    # Unless it is told not to before it is imported, onnxruntime collects usage data, with a thread and a database in
    # the user's home.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
