"""Two hundred sentences of each language that are no command: to none of them the offline rules may do or answer
anything. Data of the bench `offline` and of tests; one sentence a line."""

from __future__ import annotations

from typing import Final

ENGLISH: Final = """
the old man walked slowly across the bridge
could you recommend a good restaurant around here
my computer has stopped working again
they finished building the house in september
what did you have for breakfast
the cat is sleeping on the sofa
i have been learning spanish for two years
the doctor said i should drink more water
how long does it take to boil an egg
our neighbours have a very noisy dog
send an email to my boss about the report
is there any milk left in the fridge
the museum is closed on mondays
she plays the piano beautifully
how far is the moon from the earth
let us meet in front of the station
he forgot to lock the door last night
what is the meaning of this word
the plane landed two hours late
order me a taxi to the hotel
my favourite colour is dark green
where did you put the scissors
this soup needs a little more salt
who wrote romeo and juliet
the price of petrol has gone up again
we watched a film about dolphins
how do you spell necessary
the flowers in the garden are beautiful
i will see the dentist on thursday
which team scored the most goals
there was a big fire in the old factory
can you find my phone please
he is allergic to peanuts and shellfish
the teacher gave us a lot of homework
are there any good books about history
nobody knows what happened to the ship
i am hungry
it is cold in here
call the police
wait for me
not today
that was fun
give me the keys
where are we
feed the cat
i do not know
read a book
what is for lunch
you are wrong
turn left here
stay at home
one more time
the bus is late
come here
what is the weather like
that is great
what time does the shop open
how old is he
what is for dinner
see you on monday
thank god it is friday
the volume of a sphere is hard to remember
how much is it
he made me laugh
don't turn on the lamp
do not play any music
never set an alarm for me
i turned on the lamp this morning
she set the volume too high yesterday
the timer on the oven is broken
my alarm did not ring today
he told me a joke about a horse
we told the children a story
the time we spent in italy was wonderful
today is the first day of the rest of your life
what is the capital of australia
who is the president of france
why is the sky blue
how tall is mount everest
tell me about the war of the roses
translate good morning into german
what does serendipity mean
is it going to rain tomorrow
will it snow next week
i need an umbrella
the train to london leaves from platform nine
my brother is three years older than me
there are fifteen people in the room
she has two cats and five dogs
i bought ten apples and a melon
eighty percent of the students passed
half of the cake is gone
he was born in nineteen eighty four
the score was three to one
we live on the second floor
page forty two is missing
the recipe needs two hundred grams of flour
add the onions and stir
divide the dough into six pieces
multiply your efforts
the root of the problem is money
power to the people
the light in the kitchen is too bright
this lamp was a present from my aunt
the fan base of the band is growing
close friends are important
open your heart
he opened the window and looked out
the curtain fell and everybody clapped
the door was open all night
shut your eyes and think of the sea
start with the easy questions
turn the page
turn around slowly
switch seats with your sister
put on your coat
put off until tomorrow what you can
the stop sign is red
a bus stop is round the corner
the music was far too loud
music is the language of the soul
the next train is at noon
next year we will move
the last song was my favourite
he skipped school
pause for a moment and breathe
continue straight ahead for a mile
repeat offenders are punished
enough sugar for everybody
silence of the lambs is a film
the bright side of life
brightness is measured in lumens
my phone battery died
the battle was lost
who are they
who is your favourite singer
what are you wearing
what is her name
what is his name
my name is peter
are you married
do you have a girlfriend
do you like pizza
i like your voice
you are funny
that is a good question
i think so too
maybe later
yes
no
sure
of course
i see
really
oh dear
good idea
bless you
happy birthday
congratulations
excuse me
i am sorry
it is not my fault
i lost my wallet
my head hurts
i cannot sleep
i feel much better now
we are going on holiday
the kids are at school
dinner is ready
breakfast is served at eight
the meeting starts at nine
the film begins at seven thirty
the shop closes at six
school is out at three
he runs ten miles every morning
it takes five minutes to walk there
in three days we fly home
tomorrow is my birthday
yesterday was a long day
on friday we have fish
next monday is a holiday
two weeks ago i was ill
a month from now everything will be different
the day after tomorrow we leave
christmas is coming
how many people live in china
how many legs does a spider have
how much does an elephant weigh
what is the fastest animal
what is the square of trafalgar
where is the nearest hospital
when did columbus discover america
when is the next election
which river is the longest
why do cats purr
can penguins fly
is the earth flat
explain quantum physics to me
write a poem about autumn
give me a recipe for pancakes
what should i cook tonight
recommend a film
teach me a french word
how do i tie a tie
how do you make coffee
i would like a cup of tea
the coin fell into the well
he rolled his eyes
the dice were made of bone
pick up the phone
pick a card
goodness gracious
the bye week comes in november
later that day it began to rain
it is a quarter of the price
""".strip().split("\n")

CHINESE: Final = """
我姐姐住在河边的一个小镇上
昨天晚上下了很大的雨
他每天骑自行车去上班
这本书我看了三遍
你觉得哪家餐厅好吃
妈妈在厨房里做饭
孩子们在院子里踢球
我的电脑又坏了
火车晚点了两个小时
医生让我多喝水
北京到上海有多远
地球离月亮有多远
谁写了红楼梦
中国的首都是哪里
为什么天空是蓝色的
珠穆朗玛峰有多高
鸡蛋要煮多久
冰箱里还有牛奶吗
钥匙放在哪里了
我对花生过敏
明天会下雨吗
今天天气怎么样
下周要降温了
外面风好大
我想喝一杯咖啡
这件衣服多少钱
苹果三块钱一斤
你会说英语吗
帮我写一首诗
教我做红烧肉
推荐一部电影
翻译一下这句话
给我解释量子力学
你结婚了吗
你有女朋友吗
你喜欢吃什么
你觉得我怎么样
我觉得你说得对
这个问题很难
这是谁的手机
我的手机没电了
他的名字叫小明
她唱歌很好听
他昨天讲了一个笑话大家都笑了
老师给我们讲故事的时候很温柔
这个故事发生在很久以前
我们明天去爬山
后天是我的生日
上个星期我生病了
下周五我们放假
三天前他就走了
昨天是个好日子
前天我看见他了
今天真热
今天我很忙
现在去哪里
时间过得真快
时间就是金钱
几点的飞机
他几点回来
商店几点开门
会议九点开始
电影七点半开演
早上八点我在地铁上
十分钟前他还在这里
我等了半个小时
他跑了十公里
班里有三十个学生
我家有五口人
他今年四十岁了
这栋楼有二十层
八成的人不同意
一半的蛋糕没了
三个和尚没水喝
四面八方都是山
五颜六色的花
七上八下的心情
九牛一毛
十全十美
一加手机怎么样
加油站在哪里
加一点盐就好了
减肥真难
乘地铁去机场
除了他大家都来了
平方公里是面积单位
房间里的灯太亮了
这盏灯是姑姑送的
昨天我忘了关灯
不要打开窗户
别关灯我怕黑
千万别定闹钟
我没有打开空调
他打开了门看了看外面
门打开以后进来一只猫
请打开书本第五页
打开心扉聊一聊
开车要小心
开会的时候不要说话
开心就好
开学了真紧张
关于这件事我不清楚
关心一下老人
关键是要努力
关系很复杂
风扇坏了要修
窗帘是蓝色的
空调房里待久了不舒服
电视上在播新闻
音乐会在哪里举行
音乐是灵魂的语言
声音是怎么传播的
他的声音很好听
音量单位是什么
大家好才是真的好
大一点的鞋子有吗
小一点的房间便宜吗
高一点的那个是我哥哥
屏幕碎了怎么办
亮度是物理量
电池不能乱扔
播音员的工作辛苦吗
播种的季节到了
放学以后一起走
放假了去哪里玩
放心吧没事的
来一碗牛肉面
来我家玩吧
唱歌比赛他得了第一名
听说你搬家了
听妈妈的话很重要
下一站是人民广场
上一届冠军是谁
换个角度想问题
切菜的时候要小心
暂停营业的通知
继续努力加油
停车场在哪里
停电了好黑
停不下来的节奏
安静的湖面像镜子
重复的工作很无聊吧
重庆火锅真辣
再来一碗饭
再过十年会怎样
再等一会儿车就来了
说好的事情不能变
说来话长
讲道理不要吵
讲台上站着一位老师
提醒一下各位乘客
叫我小王就行
叫外卖还是自己做
闹钟响了他还没醒
闹市区停车很难
计时比赛开始了
定好了酒店
定期检查身体
取消了的航班怎么退票
取快递要密码
设计图画得不错
倒车要看后面
倒数第一名
硬币掉进井里了
抛开成见
骰子是骨头做的
随机应变
数字经济是什么
笑话别人不礼貌
绕口令是一种艺术形式
农历新年快到了
农民伯伯真辛苦
日期写错了
星期天我们去公园
礼拜堂很漂亮
月亮真圆
年轻真好
谁在敲门
谁知道答案
你在看什么
你去过长城吗
你妈妈是做什么的
你能帮我买瓶酱油吗
你会下围棋吗
我能借一下你的笔吗
我想回家
我想妈妈了
我要去上海
我爱北京天安门
我喜欢蓝色
我听不懂他的方言课
他们都走了
她是我的同学
这里能抽烟吗
那边有一家超市
哪里有厕所
怎么去火车站
为什么猫会打呼噜
企鹅会飞吗
世界上最快的动物是什么
中国有多少个民族
长江有多长
太阳有多大
是的
不是
好吧随便
没关系
对不起
生日快乐
恭喜发财
一路平安
原来如此
真的假的
想起来了
当然可以
""".strip().split("\n")
