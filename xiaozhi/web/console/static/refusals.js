// What the server says in words of its own, most of it when it refuses or fails, in Chinese; what is not here is shown as
// it came.

import { language } from "./words.js";

// {} stands for what differs: it is taken over, in its order.
const ZH = {
  "Please log in.": "请登录。",
  "This is not the password.": "密码不对。",
  "Too many wrong secrets came from your address; wait before you try again.": "这个地址输错次数太多，请过一会儿再试。",
  "Too many requests ({}); try again in {} s.": "请求太多（{}），请 {} 秒后再试。",
  "This page is out of date; please load it again.": "页面已过时，请重新载入。",
  "The console is closed outside of the home network.": "控制台只在家庭网络内开放。",
  "The server is busy, please try again.": "服务器正忙，请稍后再试。",
  "Something went wrong on the server; its log says what.": "服务器出错了，原因见它的日志。",
  "The database cannot be reached, please try again.": "数据库无法访问，请稍后再试。",
  "{} is not known here: it has never asked or connected, and nothing was set for it": "{} 在这里没有记录：它从未连接过，也没有为它做过设置。",
  "This device is connected to another worker of this server, which alone can do this. Try again.": "设备连接在本服务器的另一个进程上，只有那个进程能做这件事。请再试一次。",
  "This device is not connected now.": "设备现在没有连接。",
  "This device is not ready: it has not said hello yet.": "设备还没有准备好：握手尚未完成。",
  "This device is connected. Switch it off or revoke it first.": "设备正在连接，请先关机或吊销。",
  "This device is not connected to this server now.": "设备现在没有连接到本服务器。",
  "This device is connected and has no tools of its own (no MCP).": "设备已连接，但没有自己的工具（不支持 MCP）。",
  "There is no picture of this device's screen.": "没有这台设备的屏幕截图。",
  "This device has no such message.": "没有这条消息。",
  "This message does not wait any more.": "这条消息已经不在等待。",
  "This device has no such reminder.": "没有这个提醒。",
  "The voice of this person is not kept (any more).": "这个人的声音没有保存。",
  "nobody waits under {} any more": "验证码 {} 已失效。",
  "These settings cannot be used; nothing was changed.": "这些设置不能使用，没有做任何修改。",
  "Nothing was changed.": "没有做任何修改。",
  "Somebody else has changed the file meanwhile. Load this page again, then make your changes.": "文件已被别人修改。请重新载入页面，再做修改。",
  "this server was started without a configuration file": "服务器启动时没有配置文件",
  "the command line": "命令行",
  "approved by an operator": "由管理员批准",
  "a browser, by the console": "控制台里的浏览器",
  "The sound of this turn is not kept (any more).": "这一轮的录音没有保存。",
  "Nothing is kept of this conversation (any more).": "这次对话没有保存。",
  "Too many pages of the console are open.": "打开的控制台页面太多。",
};

const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
const PATTERNS = Object.entries(ZH).map(([said, told]) => [new RegExp(`^${said.split("{}").map(escaped).join("(.+)")}$`), told]);

export function translated(text) {
  if (language !== "zh") return text;
  for (const [pattern, told] of PATTERNS) {
    const found = pattern.exec(text);
    if (found) return found.slice(1).reduce((sentence, part) => sentence.replace("{}", () => part), told);
  }
  return text;
}
