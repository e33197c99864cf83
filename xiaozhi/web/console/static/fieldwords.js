// What keys of the configuration are called on pages; a key that is not here is shown as it is written.

import { language } from "./words.js";

const WORDS = {
  en: {
    api_key: "Key (API key)", base_url: "Address", api_url: "Address", url: "Address", ws_url: "Address", model_name: "Model", model: "Model", voice: "Voice",
    private_voice: "Voice", speaker: "Voice", speed: "Speed", temperature: "Temperature", max_tokens: "Longest answer (tokens)", timeout: "Patience", proxy: "Proxy", headers: "Headers",
    verify_tls: "Check the certificate", extra_body: "More fields of the request", appid: "App id", access_token: "Access token", response_format: "Format",
    format: "Format", sample_rate: "Sample rate", language: "Language", instructions: "How to speak", model_dir: "Folder of the model", functions: "Tools", fallback: "Who takes over",
    prompt: "Who the assistant is", wakeup_words: "Wake words", enable_greeting: "Answer the wake word", exit_commands: "Words that end the conversation",
    close_connection_no_voice_time: "Silence that ends the conversation", end_prompt: "Goodbye", correct_words: "Pronunciation", system_error_response: "What is said when something fails",
    "manager-api": "Management console", min_silence_duration_ms: "Silence that ends an utterance", threshold: "Threshold",
  },
  zh: {
    api_key: "密钥（API key）", base_url: "地址", api_url: "地址", url: "地址", ws_url: "地址", model_name: "模型", model: "模型", voice: "音色", private_voice: "音色", speaker: "音色",
    speed: "语速", temperature: "温度", max_tokens: "回答最长（token）", timeout: "超时", proxy: "代理", headers: "请求头", verify_tls: "校验证书", extra_body: "请求的其他字段",
    appid: "应用 ID", access_token: "访问令牌", response_format: "格式", format: "格式", sample_rate: "采样率", language: "语言", instructions: "说话方式", model_dir: "模型目录",
    functions: "工具", fallback: "后备", top_p: "Top P", frequency_penalty: "频率惩罚", resource_id: "资源 ID", cluster: "集群", secret_id: "Secret ID", secret_key: "Secret Key",
    prompt: "助手的身份", wakeup_words: "唤醒词", enable_greeting: "回应唤醒词", enable_wakeup_words_response_cache: "用预制语音回应唤醒词", exit_commands: "退出指令",
    close_connection_no_voice_time: "静默多久后结束", end_prompt: "告别语", enable: "启用", correct_words: "读音纠正", system_error_response: "出错时说的话", prompt_template: "提示词模板",
    context_providers: "实时数据来源", summaryMemory: "记忆摘要", conversation: "对话", max_utterance_ms: "最长的一句话", pre_roll_frames: "预录帧数", min_utterance_frames: "最短的一句话",
    pause_ms: "提前准备的停顿", speculative: "提前准备到哪一步", resume_seconds: "断线后对话保留", history_turns: "给模型看的轮数", history_tokens: "给模型看的 token 数", tool_depth: "一次回答中的工具轮数",
    tool_filler_seconds: "工具多久未完成时说话", tool_filler: "等待时说的话", reply_cache_bytes: "预制语音的内存", llm_cache: "重用相同的回答", show_tool_calls: "显示工具名称", plugins: "工具选项",
    mcp_endpoint: "MCP 接入点", voiceprint: "声纹识别", speakers: "说话人", similarity_threshold: "相似度阈值", wait_seconds: "等待声纹", history: "历史", mode: "保存内容", days: "保存天数", sound_days: "声音保存天数",
    max_bytes: "最大字节数", delete_audio: "不保存录音", device_max_output_size: "每台设备每天的字数", quota_response: "用完时说的话", boards: "板型例外", enable_websocket_ping: "WebSocket ping", firmware: "固件",
    enable_stop_tts_notify: "回答结束的提示音", stop_tts_notify_voice: "提示音文件", prebuffer_frames: "预缓冲帧数", tts_audio_send_delay: "音频帧间隔", xiaozhi: "握手信息", audio_params: "音频参数",
    asr_timeout: "识别超时", llm_timeout: "语言模型超时", tts_timeout: "合成超时", tool_call_timeout: "工具超时", ai_providers: "服务商限制", connect: "连接", first_token: "首个 token", stall: "停顿", total: "总计",
    max_concurrent: "并发数", enable_queue: "排队", queue_size: "队列长度", server: "服务器", ip: "监听地址", port: "端口", http_port: "HTTP 端口", websocket: "WebSocket 地址", public_url: "外部地址",
    vision_explain: "视觉地址", timezone_offset: "时区", auth: "设备认证", enabled: "启用", enroll: "登记方式", allowed_devices: "允许的设备", device_keys: "设备密钥", expire_seconds: "令牌有效期", auth_key: "签名密钥",
    secret: "管理密钥", admin_token: "管理令牌", tls: "加密", certfile: "证书文件", keyfile: "私钥文件", trusted_proxies: "可信代理", allowed_origins: "允许的网页来源", profile: "机器规格", max_connections: "最大连接数",
    thread_pool: "线程池", limits: "限制", log: "日志", log_level: "日志级别", log_dir: "日志目录", log_file: "日志文件", data_dir: "数据目录", levels: "各模块级别", content: "记录说话内容", json: "终端输出 JSON", backups: "保留份数",
    storage: "数据库", monitoring: "监测", console: "控制台", "manager-api": "管理后台", read_config_from_api: "从管理后台读取配置", min_silence_duration_ms: "结束一句话的静默", threshold: "阈值",
    rate: "语速", rate_zh: "中文语速", voice_zh: "中文音色", pitch: "音调", pitch_range: "音调起伏", volume: "音量", speed_ratio: "语速", volume_ratio: "音量", pitch_ratio: "音调", host: "主机",
    echo: "回声消除", late_answer_seconds: "断线后补说答案的时限", late_answer_limit: "补说答案的最大字数", turn: "说完判断", min_silence_ms: "确定说完后的静默", max_silence_ms: "还没说完时的静默", words: "看哪些语言的词", type: "类型",
    max_prebuffer_frames: "最多预缓冲帧数", version: "版本", frame_duration: "帧长", ASR: "识别", LLM: "大模型", VLLM: "视觉", TTS: "合成", asr: "识别", llm: "大模型", tts: "合成", memory: "记忆", intent: "意图",
    websocket_choice: "WebSocket 地址的选择", mqtt_gateway: "MQTT 网关", mqtt_signature_key: "MQTT 签名密钥", udp_gateway: "UDP 网关", redis: "Redis", heartbeat_interval: "心跳间隔", heartbeat_timeout: "心跳超时",
    connection_timeout: "连接超时", hello_timeout: "握手超时", drain_seconds: "停止前等待", reuse_port: "共用端口", max_workers: "线程数", binary_bytes: "二进制消息上限", text_bytes: "文本消息上限", header_bytes: "请求头上限",
    send_timeout: "发送超时", per_ip: "每个地址的连接数", per_device: "每台设备的连接数", handshakes_per_second: "每秒握手数", messages_per_second: "每秒消息数", frames_per_second: "每秒音频帧数", ota_per_minute: "每分钟 OTA 请求数",
    ota_per_device: "每台设备的 OTA 请求数", vision_per_device: "每台设备的图片请求数", orders_per_minute: "每分钟命令数", text_bytes_per_second: "每秒文本字节数", work_ms_per_second: "每秒处理时间", memory_bytes: "内存上限",
    queued: "排队任务数", cpu_percent: "处理器占用", worker_metrics: "各进程的监测端口", mqtt: "MQTT", udp_port: "UDP 端口", endpoint: "外部地址", udp_host: "UDP 主机", keepalive: "保活间隔", max_devices: "最大设备数",
    groups: "设备分组", quiet_hours: "免打扰时段", intercom: "设备间传话", sample_interval: "采样间隔", probe_at_start: "启动时检测服务商", max_retries: "重试次数", retry_delay: "重试间隔",
  },
};

export function labelOf(path) {
  const key = path[path.length - 1];
  const written = key.replaceAll("_", " ");
  return WORDS[language]?.[key] ?? WORDS.en[key] ?? written.charAt(0).toUpperCase() + written.slice(1);
}
