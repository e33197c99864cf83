"""Addresses of a model's files."""

from __future__ import annotations

import pytest

from xiaozhi.models.entries import hub

PATH = "/who/what/resolve/main/model.onnx"


def test_public_hubs_when_the_environment_names_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)

    assert hub("who/what", "model.onnx") == (f"https://huggingface.co{PATH}", f"https://hf-mirror.com{PATH}")
    assert hub("who/what", "model.onnx", modelscope="near/what")[0].startswith("https://www.modelscope.cn/models/near/")


def test_the_mirror_of_the_environment_comes_first_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    assert hub("who/what", "model.onnx", modelscope="near/what")[0] == f"https://mirror.example{PATH}"

    monkeypatch.setenv("HF_ENDPOINT", "https://hf-mirror.com")
    assert hub("who/what", "model.onnx") == (f"https://hf-mirror.com{PATH}", f"https://huggingface.co{PATH}")
