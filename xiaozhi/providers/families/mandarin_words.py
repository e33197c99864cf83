"""Readings of Mandarin words that the package pypinyin lacks or has otherwise, as they are spoken to a device at home.

Lists of words for `mandarin_pinyin.py`; pinyin with the tone's number, 5 for the neutral tone."""

from __future__ import annotations

from typing import Final

ALONE: Final = """
长:chang2 调:tiao2 得:de5 弹:tan2 切:qie1 谁:shei2 教:jiao1 露:lu4 嗯:en5 哇:wa5 啊:a5 呀:ya5 哦:o5 噢:o5 喔:o5
嘛:ma5 啦:la5 咯:lo5 哎:ai1 喂:wei4 哟:yo5 嘿:hei1 们:men5 么:me5 呢:ne5 吧:ba5 吗:ma5 的:de5 了:le5 着:zhe5
一:yi1 不:bu4 零:ling2 两:liang3 数:shu4 儿:er2
"""
"""The commonest reading of a character that stands alone, where the package's first one is another."""

WORDS: Final = """
调到:tiao2,dao4 调成:tiao2,cheng2 调高:tiao2,gao1 调低:tiao2,di1 调大:tiao2,da4 调小:tiao2,xiao3 调亮:tiao2,liang4
调暗:tiao2,an4 调节:tiao2,jie2 音调:yin1,diao4 还给:huan2,gei3 还书:huan2,shu1 还钱:huan2,qian2 归还:gui1,huan2
长得:zhang3,de5 长高:zhang3,gao1 长出:zhang3,chu1 生长:sheng1,zhang3 成长:cheng2,zhang3 数数:shu3,shu4
数到:shu3,dao4 数一数:shu3,yi1,shu3 数一下:shu3,yi1,xia4 倒计时:dao4,ji4,shi2 倒水:dao4,shui3 倒在:dao3,zai4
到了:dao4,le5 为了:wei4,le5 得了:de2,le5 睡着:shui4,zhao2 找着:zhao3,zhao2 觉着:jue2,zhe5 银行:yin2,hang2
行走:xing2,zou3 行业:hang2,ye4 一行:yi1,hang2 两行:liang3,hang2 重庆:chong2,qing4 厦门:xia4,men2 什么:shen2,me5
怎么:zen3,me5 这么:zhe4,me5 那么:na4,me5 多么:duo1,me5 还是:hai2,shi4 还有:hai2,you3 都是:dou1,shi4 都有:dou1,you3
觉得:jue2,de5 记得:ji4,de5 晓得:xiao3,de5 懒得:lan3,de5 得到:de2,dao4 得分:de2,fen1 得去:dei3,qu4 得先:dei3,xian1
总得:zong3,dei3 地上:di4,shang5 地铁:di4,tie3 地图:di4,tu2 天地:tian1,di4 好奇:hao4,qi2 好客:hao4,ke4
播放:bo1,fang4 转圈:zhuan4,quan1 空调:kong1,tiao2 分钟:fen1,zhong1 处分:chu3,fen4 哪儿:na3,er5 这儿:zhe4,er5
那儿:na4,er5 一会儿:yi1,hui4,er5 一点儿:yi1,dian3,er5 玩儿:wan2,er5 有点儿:you3,dian3,er5 事儿:shi4,er5
花儿:hua1,er5 女儿:nv3,er2 儿子:er2,zi5 儿童:er2,tong2 幼儿:you4,er2
"""

NEUTRAL: Final = """
朋友 东西 意思 喜欢 知道 时候 漂亮 便宜 晚上 早上 衣服 舒服 明白 告诉 先生 学生 姑娘 爸爸 妈妈 爷爷 奶奶 哥哥 姐姐
弟弟 妹妹 宝宝 星星 月亮 太阳 天上 路上 身上 床上 桌上 手上 里面 外面 前面 后面 上面 下面 这里 那里 哪里 家里 屋里
心里 眼睛 耳朵 鼻子 嘴巴 头发 脑袋 胳膊 指头 石头 木头 骨头 馒头 枕头 舌头 名字 故事 事情 消息 关系 麻烦 客气 生意
力气 脾气 热闹 凉快 暖和 干净 清楚 聪明 老实 认识 休息 收拾 打扫 打听 打算 商量 答应 照顾 帮忙 咳嗽 豆腐 萝卜 葡萄
西瓜 月饼 点心 窗户 钥匙 扫帚 抽屉 灯笼 喇叭 玻璃 扇子 多少 部分 地方 小气 大方 大夫 师傅 护士 亲戚 妻子 丈夫 孙子
狐狸 蚂蚁 蝴蝶 猴子 兔子 狮子 骆驼 苍蝇 蚊子 刺猬 蛤蟆 起来 出来 进来 过来 回来 下来 上来 出去 进去 过去 回去 下去
上去 下巴 尾巴 规矩 本事 糊涂 马虎 精神 困难 别扭 厉害 利索 结实 似的 你们 我们 他们 她们 它们 咱们 人们 孩子
孩子们 房子 桌子 椅子 杯子 瓶子 盘子 筷子 勺子 帽子 裤子 裙子 鞋子 袜子 被子 箱子 盒子 袋子 车子 票子 样子 影子
日子 句子 院子 屋子 橘子 桃子 李子 饺子 包子 粽子 肚子 脖子 胡子 嗓子 鸽子 燕子 叶子 种子 棍子 镜子 梯子 谢谢 看看
听听 说说 试试 等等 想想 走走 坐坐 玩玩 找找 问问 猜猜 聊聊 算算 查查 讲讲
"""
"""Words whose last syllable is neutral in the speech of the north."""
