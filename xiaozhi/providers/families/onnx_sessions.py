"""Models in ONNX files, run by onnxruntime on one thread: parallelism is the inference pool's."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any


def load_library() -> Any:
    """The module. In a greenlet, before a session is opened in the pool: an import takes locks, and those are patched.
    The hub stands still for it. Raises ImportError."""
    # Unless it is told not to before it is imported, onnxruntime collects usage data, with a thread and a database in
    # the user's home.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return importlib.import_module("onnxruntime")


def open_session(path: Path, *, lean: bool = False, arena: bool = True) -> Any:
    """An `onnxruntime.InferenceSession`; imports the library, for which the hub stands still. Raises what it raises.

    `lean`: for large models: weights are not kept a second time in the order that multiplies fastest (Moonshine: 26 MB
    less for 6 % more CPU), nor memory for the shapes that were seen. `arena`: False gives memory back after each run;
    an arena keeps that of the longest input for ever."""
    onnxruntime = load_library()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = arena
    if lean:
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.disable_prepacking", "1")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
