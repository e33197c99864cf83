"""Two hundred more sentences of each language that are no command, many of them with the words of commands; written
before they were tried, and nothing was tuned on them. Data of the bench `offline_commands`; one sentence a line."""

from __future__ import annotations

from typing import Final

ENGLISH: Final = """
my sister moved to a smaller flat last spring
the train from london was late again
i cannot remember where i parked the car
we had pancakes with honey this morning
who painted the mona lisa
how many bones are there in the human body
there is a hole in my left shoe
could you explain how a rainbow is made
the children are playing in the yard
she turned on her heel and left
he always turns up late for dinner
the volume of this box is forty litres
they lit a fire on the beach
my alarm at the old house was very loud
time flies when you are having fun
this song reminds me of my grandmother
i had a bright idea yesterday
the fans cheered for ten minutes
we opened a bottle of wine
the shop opens at nine and closes at six
what is the capital of portugal
he plays the drums in a band
my battery died in the middle of the call
it was a joke and nobody laughed
the story of her life is quite sad
i have a meeting with the bank at three
the light in this painting is wonderful
do you think it will snow at christmas
please send the invoice to the accountant
my uncle repairs old radios
we are out of coffee and sugar
the neighbour's cat had five kittens
translate this letter into french
is it safe to eat raw eggs
where can i buy cheap tickets
there were twelve people in the lift
he counted to one hundred and came to look for us
the price dropped by fifteen percent
my brother is three years older than i am
i was born on a friday
in three days we fly to rome
last week was very busy at work
the lamp that i bought is broken
the fan in my computer makes a strange noise
our living room is too small for a piano
we should paint the bedroom blue
the kitchen smells of garlic
somebody left the window open last night
i heard a noise behind the door
the heater in the car does not work
the television was invented in the twenties
i prefer reading books to watching films
what colour goes well with grey
the dog next door barks at everybody
her voice is very quiet
he shouted louder than everybody else
the music at the wedding was awful
they stopped the bus because of a flat tyre
the next stop is the airport
i missed the last episode
skip the first chapter if you are in a hurry
the coin was found in a roman grave
he bit his tongue while eating
she twisted her ankle on the stairs
nobody told me about the party
you promised to help me with the garden
what did the doctor say about your knee
do penguins live at the north pole
can you recommend a film for children
i think i have lost my passport
the river flooded the whole village
it takes two hours to get there
that will cost about four hundred euros
the recipe needs six eggs and some flour
bake it for half an hour at two hundred degrees
the meeting was moved to half past four
he woke up at seven and went for a run
they set the table for eight people
she set a new record in the marathon
the sun sets early in december
we cancelled our holiday because of the storm
the flight was cancelled
i forgot to call my mother yesterday
he never remembers my birthday
remember the summer we spent in spain
forget what i said about the house
i do not know her name
my name is on the list
what is the name of that actor
i am twenty eight years old
i am on my way to the station
i am not sure that this is right
are you coming to the party on saturday
you look tired today
thank your mother for the cake
the teacher thanked us for our help
he said goodbye to his friends
it was good to see you again
the hello kitty bag is mine
open a bank account for me
close the deal before monday
start the report with a summary
the car would not start this morning
my phone is switched off in meetings
he switched from tea to coffee
the power was off for two hours
turn right at the traffic lights
go straight on and then left
the screen of my laptop is cracked
brightness is a matter of taste
there is plenty of time until the train leaves
time is money
one day we will sail around the world
every day she walks ten kilometres
what a lovely day
what a pity
i doubt it
of course not
somewhere else
not really
that is strange
he is gone
you never listen
it hurts
they agreed
ask your father
bring an umbrella
wash your hands
mind the step
look at that
catch the ball
keep the change
take a seat
try harder
leave me alone
follow that car
cut the bread
my leg hurts
two coffees please
see the doctor
buy some apples
pay the rent
she sings well
the bus left
no idea
good point
fair enough
as you wish
i beg to differ
how embarrassing
the phone is ringing
somebody is at the door
do not touch that
what is wrong with you
how did that happen
when does the library close
where do polar bears live
who won the election
which bus goes to the centre
whose jacket is this
how much does a new roof cost
how long is the great wall
how often should i water a cactus
what is the weather like in paris
will it rain this afternoon
what is the news
what happened in the war
what is two people's favourite game
what is the square root of evil
what is the sum that i owe you
what is the difference between a frog and a toad
what is the date of the battle of hastings
what is the time difference between tokyo and berlin
what is the day of the dead
set theory is hard to understand
set fire to the rain is a sad song
timer is a word with five letters
the egg timer is in the drawer
alarms went off all over the city
the curtain rod needs two screws
the light was green when we crossed
lamps were lit along the street
the plug does not fit here
my camera needs a new lens
the vacuum of space is very cold
play is how children learn
the play was sold out
played badly and lost the match
a louder engine is not always faster
a quieter life would suit me
he turned the page
she turned thirty in may
they turned down my offer
turn of the century houses are expensive
the stop sign was hidden by a tree
stop by my office when you can
he repeated the class
say hello to your parents from me
tell your boss that you are ill
tell him a lie
give it to the dog
give up smoking
pick me up at the airport
roll the dough very thin
toss the salad with oil
throw the ball to your sister
""".strip().split("\n")

CHINESE: Final = """
我姐姐去年春天搬到了上海
从北京来的火车又晚点了
我忘记把车停在哪里了
早上我们吃了豆浆和油条
蒙娜丽莎是谁画的
人身上一共有多少块骨头
我左脚的鞋子破了一个洞
你能解释一下彩虹是怎么来的吗
孩子们在院子里玩
他转身就走了
他吃饭总是迟到
这个箱子的容积是四十升
他们在海边点了一堆火
我以前的闹钟特别吵
开心的时候时间过得真快
这首歌让我想起奶奶
昨天我有了一个好主意
球迷们欢呼了十分钟
我们开了一瓶红酒
这家店九点开门六点关门
葡萄牙的首都是哪里
他在乐队里打鼓
打电话打到一半手机没电了
那个笑话一点也不好笑
她的人生故事挺让人难过的
下午三点我要去银行开会
这幅画里的光线真美
你觉得圣诞节会下雪吗
请把发票寄给会计
我叔叔会修老式收音机
家里的咖啡和糖都用完了
邻居家的猫生了五只小猫
把这封信翻译成法语
生鸡蛋能吃吗
哪里能买到便宜的票
电梯里有十二个人
他数到一百就来找我们
价格降了百分之十五
我哥哥比我大三岁
我是星期五出生的
三天后我们飞罗马
上个星期工作特别忙
我买的台灯坏了
电脑里的风扇有奇怪的声音
幕布落下来大家都鼓掌
我们的客厅太小放不下钢琴
卧室应该刷成蓝色的
厨房里有一股大蒜味
昨天晚上有人没关窗户
我听见门后面有声音
车里的暖气坏了
电视机是谁发明的
比起看电影我更喜欢看书
灰色配什么颜色好看
隔壁的狗见谁都叫
她的声音很小很好听
他喊得比谁都大声
婚礼上的音乐难听极了
公交车因为爆胎停在路边
下一站是飞机场
最后一集我没看到
赶时间的话第一章可以不看
这枚硬币是从古墓里挖出来的
他吃饭的时候咬到了舌头
她下楼梯把脚扭了
没有人告诉我聚会的事
你答应帮我收拾花园的
法国总统是谁
医生怎么说你的膝盖
北极有企鹅吗
给孩子看什么电影比较好
我好像把护照弄丢了
河水把整个村子都淹了
到那里要两个小时
大概要花四百块钱
这个菜要六个鸡蛋和一点面粉
用两百度烤半个小时
会议改到四点半了
他七点起床去跑步
他们摆了八个人的碗筷
她打破了马拉松的纪录
十二月太阳落山很早
因为台风我们取消了旅行
航班被取消了
昨天我忘了给妈妈打电话
他从来不记得我的生日
记得我们在西班牙过的那个夏天吗
我说的话你就忘了吧
我不知道她的名字
名单上有我的名字
那个演员叫什么
我今年二十八岁
我在去车站的路上
我不确定这样对不对
星期六的聚会你来吗
你今天看起来很累
替我谢谢你妈妈做的蛋糕
老师感谢我们的帮助
他跟朋友们说了再见
很高兴又见到你
那个凯蒂猫的包是我的
我要去银行开一个账户
星期一以前把合同签了
报告的开头先写一个总结
今天早上车子打不着火
开会的时候我的手机关机
他不喝茶改喝咖啡了
停电停了两个小时
红绿灯那里右转
一直往前走然后左转
我的笔记本电脑屏幕裂了
亮度这个东西各人喜好不同
离火车开车还早着呢
总有一天我们要环游世界
她每天走十公里
今天天气真好
太可惜了
我不相信
当然不是
以后再说
换个地方
不太清楚
真奇怪
他走了
你从来不听
好疼啊
他们同意了
去问你爸爸
记得带伞
去洗手
小心台阶
你看那个
接住球
不用找了
请坐
加把劲
别烦我
跟着那辆车
切面包
我腿疼
来两杯咖啡
去看医生
买几个苹果
该交房租了
她唱得很好
吃饭了
车开走了
没主意
有道理
还行吧
随你的便
我有不同看法
真不好意思
电话响了
有人敲门
别碰那个
你怎么回事
怎么会这样
天空为什么是蓝色的
图书馆几点关门
北极熊住在哪里
谁赢了比赛
哪路车去市中心
这是谁的外套
换一个屋顶要多少钱
蜘蛛有几条腿
长城有多长
仙人掌多久浇一次水
巴黎的天气怎么样
下午会下雨吗
有什么新闻
战争的时候发生了什么
三个人最喜欢玩的游戏
加班的人越来越多
我欠你多少钱
青蛙和蟾蜍有什么区别
赤壁之战是哪一年
东京和柏林差几个小时
几点的飞机去广州
集合的概念很难懂
她放学以后去弹钢琴
定金已经付过了
抽屉里有一个煮蛋的定时器
全城的警报都响了
窗帘杆要两个螺丝
我们过马路的时候是绿灯
路边的灯都亮了
这个插头插不进去
我的相机要换镜头
太空里是真空的
孩子是在玩耍中学习的
那场话剧票卖完了
放假的时候我在家睡觉
放了半天也没凉
打开天窗说亮话
关于这件事我没有意见
关你什么事
开水在桌子上
开车去只要二十分钟
唱片店已经关门了
听说他要结婚了
听力考试很难
停车场在地下二层
停了三天的雨又下起来了
重复的内容可以删掉
替我向你父母问好
告诉老板你生病了
提醒过你多少次了
叫外卖太贵了
""".strip().split("\n")
