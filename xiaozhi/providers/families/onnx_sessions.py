"""Models in ONNX files, run by onnxruntime on one thread: parallelism is the inference pool's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def open_session(path: Path, *, lean: bool = False, arena: bool = True) -> Any:
    """An `onnxruntime.InferenceSession`; imports the library, for which the hub stands still. Raises what it raises.

    `lean`: for large models: weights are not kept a second time in the order that multiplies fastest (Moonshine: 26 MB
    less for 6 % more CPU), nor memory for the shapes that were seen. `arena`: False gives memory back after each run;
    an arena keeps that of the longest input for ever."""
    # Unless it is told not to before it is imported, onnxruntime collects usage data, with a thread and a database in
    # the user's home.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = arena
    if lean:
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.disable_prepacking", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
