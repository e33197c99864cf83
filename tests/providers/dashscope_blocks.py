"""Blocks of DashScope as files of the existing server have them."""

from __future__ import annotations

PARAFORMER = {
    "type": "aliyunbl_stream",
    "api_key": "sk-1",
    "model": "paraformer-realtime-v2",
    "format": "pcm",
    "sample_rate": 16000,
    "disfluency_removal_enabled": False,
    "semantic_punctuation_enabled": False,
    "max_sentence_silence": 200,
    "multi_threshold_mode_enabled": False,
    "punctuation_prediction_enabled": True,
    "inverse_text_normalization_enabled": True,
    "output_dir": "tmp/",
}
QWEN = {
    "type": "qwen3_asr_flash",
    "api_key": "sk-1",
    "base_url": "https://dashscope.aliyuncs.com/compatible-mode/v1",
    "model_name": "qwen3-asr-flash",
    "output_dir": "tmp/",
    "enable_lid": True,
    "enable_itn": True,
    "context": "",
}
COSYVOICE = {
    "type": "alibl_stream",
    "api_key": "sk-1",
    "model": "cosyvoice-v2",
    "voice": "longcheng_v2",
    "output_dir": "tmp/",
}
