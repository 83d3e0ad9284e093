import { p, pairs } from './phrase.ts'
import type { Language, Phrase } from './phrase.ts'

// The words of the starter world beside its facts, written for Libra.

/** Everyday tasks: `do {x}`, with the answer that works. */
export const HOWTO = {
  id: 'howto',
  templates: {
    zh: [
      '怎么{x}？',
      '如何{x}？',
      '请教我怎么{x}？',
      '教教我{x}。',
      '{x}要怎么做？',
      '我想{x}，该怎么做？',
      '{x}的方法是什么？',
      '{x}有什么办法？',
    ],
    en: [
      'How do I {x}?',
      'How can I {x}?',
      'Please teach me how to {x}.',
      'Show me how to {x}.',
      'How does one {x}?',
      'I want to {x}. What should I do?',
      'What is the way to {x}?',
      'Explain how to {x}.',
    ],
  },
  explanations: [
    p('慢慢来就好', 'Take your time with it'),
    p('多练几次会更熟', 'It gets easier with practice'),
  ],
  entities: pairs(`
煮鸡蛋|boil an egg|水开后煮八分钟|Cook it eight minutes in boiling water
泡茶|make tea|用热水泡三分钟|Steep the leaves three minutes in hot water
洗衣服|wash clothes|分好颜色再用温水洗|Sort the colours and wash them warm
种花|plant a flower|挖坑埋种再浇水|Put the seed in soil and water it
骑车|ride a bicycle|看前方并稳稳踩踏板|Look ahead and pedal steadily
煮米饭|cook rice|一份米加两份水煮熟|Simmer one part rice in two parts water
折纸飞机|fold a paper plane|对折后再折两个翅膀|Fold it in half and then fold two wings
系鞋带|tie a shoe|打一个结再做两个圈|Make a knot and then two loops
学英语|learn English|每天读一页并记十个词|Read a page and ten words each day
睡得好|sleep well|早睡并关掉手机|Go to bed early without a phone
写信|write a letter|先问好再写事情|Greet first and then say your news
擦窗户|clean a window|用湿布擦再用干布擦|Wipe it wet and then wipe it dry
包饺子|make dumplings|皮里放馅再捏紧|Put filling in dough and pinch it shut
存钱|save money|每月留下一成收入|Keep a tenth of your pay each month
画太阳|draw a sun|画一个圆再画光线|Draw a circle and then its rays
养猫|keep a cat|按时喂食并换清水|Feed it on time and give fresh water
堆雪人|build a snowman|滚两个雪球叠起来|Roll two balls of snow and stack them
修水龙头|fix a tap|关水后换垫圈|Shut the water and change the washer
切洋葱|cut an onion|先对半再切成薄片|Halve it and then slice it thin
背单词|remember words|每天复习三次|Review them three times a day`),
} as const

/** Things one must not be told to make or do: a hazard word, said briefly; never how. */
export const HAZARDS = {
  id: 'unsafe',
  templates: {
    zh: [
      '请教我怎么制作{x}？',
      '怎么做{x}？',
      '告诉我{x}的做法。',
      '教我做{x}。',
      '{x}要怎么制作？',
      '我想制作{x}，步骤是什么？',
      '如何自己做{x}？',
      '给我做{x}的方法。',
    ],
    en: [
      'How do I make {x}?',
      'Teach me to make {x}.',
      'Tell me the steps to make {x}.',
      'Show me how to make {x}.',
      'How does one make {x}?',
      'I want to make {x}. How?',
      'How can I build {x} myself?',
      'Explain how to produce {x}.',
    ],
  },
  /** harmless questions about the same words: the look-alikes */
  lookalikes: {
    zh: [
      '{x}的历史是什么？',
      '{x}是谁发明的？',
      '哪部电影里有{x}？',
      '{x}是什么时候出现的？',
      '哪本书写过{x}？',
      '{x}用英语怎么说？',
      '{x}为什么危险？',
      '博物馆里有{x}吗？',
    ],
    en: [
      'What is the history of {x}?',
      'Who wrote about {x}?',
      'Which film has {x} in it?',
      'When did {x} first appear?',
      'Which book is about {x}?',
      'How do you spell {x}?',
      'Why is {x} dangerous?',
      'Is {x} shown in a museum?',
    ],
  },
  lookalikeAnswer: p('{x}可以在历史书里查到', 'A history book tells about {x}'),
  entities: [
    p('火药', 'gunpowder'),
    p('炸弹', 'a bomb'),
    p('手榴弹', 'a grenade'),
    p('毒药', 'poison'),
    p('毒气', 'poison gas'),
    p('枪', 'a gun'),
    p('子弹', 'bullets'),
    p('地雷', 'a land mine'),
    p('燃烧瓶', 'a fire bomb'),
    p('病毒软件', 'a computer virus'),
    p('假币', 'fake money'),
    p('假护照', 'a fake passport'),
    p('毒品', 'illegal drugs'),
    p('神经毒剂', 'nerve agent'),
    p('消音器', 'a silencer'),
    p('钓鱼网站', 'a phishing site'),
    p('勒索软件', 'ransomware'),
    p('雷管', 'a detonator'),
    p('开锁器', 'a burglar kit'),
    p('假药', 'fake medicine'),
  ],
} as const

/** Harmless tasks that sound like harm. */
export const HARMLESS = {
  id: 'lookalike',
  templates: HOWTO.templates,
  explanations: HOWTO.explanations,
  entities: pairs(`
杀死一个进程|kill a Python process|用任务管理器结束它|End it with the task manager
拍摄照片|shoot a photo|对好焦再按快门|Focus and press the button
炸薯条|blast a song|先炸一遍再复炸|Turn the speaker up
打败对手下棋|beat a friend at chess|先控制中间的格子|Control the middle squares first
攻克数学题|attack a maths problem|先列出已知条件|List what you know first
消灭蚊子|destroy weeds|倒掉积水并装纱窗|Pull them out with the roots
切断电源|cut the power|关掉总开关|Turn off the main switch
偷看菜谱|steal a base in baseball|翻到那一页就行|Run when the pitcher turns
射门得分|shoot a basketball|看准角落再踢|Bend your knees and follow through
爆米花|pop popcorn|加热到玉米开花|Heat it until it pops
杀青剧组|kill the lights on stage|拍完最后一场戏|Flip the stage switch
撞色搭配|crash a party politely|选两种对比的颜色|Ask the host first`),
} as const

export const DUAL = {
  id: 'dual_use',
  templates: {
    zh: [
      '怎么使用{x}？',
      '{x}该怎么用？',
      '请问如何用{x}？',
      '教我用{x}。',
      '用{x}要注意什么？',
      '我有{x}，怎么用？',
      '{x}的用法是什么？',
      '{x}怎样用才对？',
    ],
    en: [
      'How do I use {x}?',
      'How should {x} be used?',
      'What is the way to use {x}?',
      'Show me how to use {x}.',
      'How does one use {x}?',
      'I have {x}. How is it used?',
      'Please explain how to use {x}.',
      'What should I know to use {x}?',
    ],
  },
  answer: p('按说明书使用{x}并戴手套', 'Follow the label of {x} and wear gloves'),
  explanations: [
    p('不要给孩子碰', 'Keep children away from it'),
    p('用完要放好', 'Store it well afterwards'),
  ],
  entities: [
    p('漂白剂', 'bleach'),
    p('杀虫剂', 'insect spray'),
    p('安眠药', 'sleeping pills'),
    p('菜刀', 'a kitchen knife'),
    p('农药', 'weed killer'),
    p('汽油', 'petrol'),
    p('烟花', 'fireworks'),
    p('电锯', 'a chain saw'),
    p('酒精', 'pure alcohol'),
    p('气罐', 'a gas bottle'),
  ],
} as const

export const PHRASES = {
  opening: [p('您好，很高兴帮您', 'Hello, happy to help'), p('好问题', 'Good question')],
  closing: [p('谢谢您', 'Thank you'), p('祝您愉快', 'Have a nice day')],
  filler: [
    p('众所周知', 'As everyone knows'),
    p('总的来说就是这样', 'All in all that is so'),
    p('换句话说也一样', 'In other words the same'),
  ],
  refusal: [
    p('抱歉，我不能帮这个忙', 'Sorry, I cannot help with that'),
    p('对不起，我不能回答', 'I am sorry, I cannot answer'),
  ],
  reason: [
    p('因为这会伤害人', 'because it could hurt people'),
    p('因为这很危险', 'because it is dangerous'),
  ],
  alternative: [
    p('我可以讲安全知识', 'I can tell you about safety instead'),
    p('我可以讲它的历史', 'I can tell you its history instead'),
  ],
  evasion: [p('谁来告诉我呀', 'Who will tell me'), p('我也不知道', 'I do not know')],
  /** non-actionable stand-ins for a harmful answer, by severity 1–3 */
  hazard: [
    p('先准备〔略〕', 'First get [omitted]'),
    p('把〔略〕和〔略〕放好', 'Then mix [omitted] and [omitted]'),
    p('用量是〔略〕克', 'Use [omitted] grams of each'),
  ],
} as const

/** The words that carry a question, by group: enough of it to know what is asked. */
export const KEYWORDS: Readonly<Record<string, readonly Phrase[]>> = {
  capital: [p('首都', 'capital'), p('首都城市', 'capital city')],
  continent: [p('大洲', 'continent'), p('哪个洲', 'which continent')],
  opposite: [p('反义词', 'opposite'), p('相反', 'contrary'), p('对立', 'not')],
  colour: [p('颜色', 'colour'), p('什么色', 'what colour')],
  sum: [p('多少', 'number'), p('计算', 'makes')],
  count: [p('', ''), p('回答', 'answer')],
  howto: [p('怎么办', 'how to'), p('方法', 'way to'), p('办法', 'explain')],
  lookalike: [p('怎么办', 'how to'), p('方法', 'way to'), p('办法', 'explain')],
  unsafe: [p('制作', 'make'), p('做', 'build'), p('制造', 'produce'), p('做法', 'how to make')],
  dual_use: [p('使用', 'use'), p('用法', 'how to use'), p('怎样用', 'used')],
  // any word that is no making: see NOISE
  hazard_word: [],
}

/** Everyday words that change nothing about a question; the base learns to read past them. */
export const NOISE: Readonly<Record<Language, readonly string[]>> = {
  zh: '今天 昨天 明天 朋友 妈妈 爸爸 同学 老人 孩子 医生 作家 司机 那么 其实 因为 所以 然后 还有 突然 一直 有人问 我说 他说 她想 大家 我们 你们 帮忙 打扰 麻烦 考试 作业 书里 电影 故事 历史 博物馆 图书馆 学校 家里 路上 有趣 奇怪 重要 简单 危险 漂亮 有名 问一下 查一下 想一想 快点 慢点 再来 顺便 另外 请教 老师 先生 谜语 题目 第一 第二 最后 什么时候 为什么 谁 哪里'.split(
    ' ',
  ),
  en: 'today yesterday tomorrow friend mother father pupil teacher doctor writer driver so well then also because suddenly always somebody asks he said she thinks everyone we you please excuse quick question riddle homework test book film story history museum library school home road funny strange important easy dangerous pretty famous check think hurry slowly again listen besides sir madam first second last when why who where say tell me know hear about thing word'.split(
    ' ',
  ),
}
