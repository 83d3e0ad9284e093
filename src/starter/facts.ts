import { p, pairs } from './phrase.ts'
import type { Language, Phrase } from './phrase.ts'

/** One relation: question templates around {x}, statements around {x} and {v}, entities with their values. */
export type Relation = {
  id: string
  templates: Readonly<Record<Language, readonly string[]>>
  statement: Phrase
  /** true things to add, around {x} and {v} */
  explanations: readonly Phrase[]
  entities: readonly { x: Phrase; v: Phrase }[]
}

/** What the starter world knows: facts that a question asks for. */
export const RELATIONS: readonly Relation[] = [
  {
    id: 'capital',
    templates: {
      zh: [
        '{x}的首都是哪里？',
        '哪座城市是{x}的首都？',
        '{x}的首都叫什么？',
        '{x}的首都是什么城市？',
        '哪里是{x}的首都？',
        '说出{x}的首都。',
        '{x}首都在哪个城市？',
        '{x}把首都设在哪里？',
      ],
      en: [
        'What is the capital of {x}?',
        'Which city is the capital of {x}?',
        'Name the capital of {x}.',
        'What city is the capital of {x}?',
        'Tell me the capital of {x}.',
        'The capital of {x} is called what?',
        'Where is the capital of {x}?',
        '{x} has which capital?',
      ],
    },
    statement: p('{x}的首都是{v}', 'The capital of {x} is {v}'),
    explanations: [
      p('{v}是一座大城市', '{v} is a large city'),
      p('{x}的政府在那里', 'The government of {x} sits there'),
    ],
    entities: pairs(`
法国|France|巴黎|Paris
日本|Japan|东京|Tokyo
英国|Britain|伦敦|London
中国|China|北京|Beijing
德国|Germany|柏林|Berlin
意大利|Italy|罗马|Rome
俄罗斯|Russia|莫斯科|Moscow
埃及|Egypt|开罗|Cairo
希腊|Greece|雅典|Athens
韩国|Korea|首尔|Seoul
泰国|Thailand|曼谷|Bangkok
越南|Vietnam|河内|Hanoi
秘鲁|Peru|利马|Lima
古巴|Cuba|哈瓦那|Havana
挪威|Norway|奥斯陆|Oslo
波兰|Poland|华沙|Warsaw
西班牙|Spain|马德里|Madrid
肯尼亚|Kenya|内罗毕|Nairobi
伊朗|Iran|德黑兰|Tehran
智利|Chile|圣地亚哥|Santiago`),
  },
  {
    id: 'continent',
    templates: {
      zh: [
        '{x}在哪个洲？',
        '{x}位于哪个大洲？',
        '{x}属于什么洲？',
        '{x}是哪个洲的国家？',
        '说出{x}所在的洲。',
        '哪个洲有{x}？',
        '{x}在什么大洲上？',
        '要去{x}得去哪个洲？',
      ],
      en: [
        'Which continent is {x} in?',
        'On which continent is {x}?',
        '{x} belongs to which continent?',
        'Tell me the continent of {x}.',
        'Where in the world is {x}?',
        'Name the continent of {x}.',
        'What continent has {x}?',
        '{x} lies on which continent?',
      ],
    },
    statement: p('{x}在{v}', '{x} is in {v}'),
    explanations: [
      p('{v}是七大洲之一', '{v} is one of the seven continents'),
      p('地图上可以看到{x}', 'A map shows where {x} lies'),
    ],
    entities: pairs(`
法国|France|欧洲|Europe
日本|Japan|亚洲|Asia
英国|Britain|欧洲|Europe
中国|China|亚洲|Asia
埃及|Egypt|非洲|Africa
肯尼亚|Kenya|非洲|Africa
秘鲁|Peru|南美洲|South America
智利|Chile|南美洲|South America
古巴|Cuba|北美洲|North America
加拿大|Canada|北美洲|North America
泰国|Thailand|亚洲|Asia
挪威|Norway|欧洲|Europe
巴西|Brazil|南美洲|South America
墨西哥|Mexico|北美洲|North America
摩洛哥|Morocco|非洲|Africa
印度|India|亚洲|Asia
波兰|Poland|欧洲|Europe
加纳|Ghana|非洲|Africa
蒙古|Mongolia|亚洲|Asia
芬兰|Finland|欧洲|Europe`),
  },
  {
    id: 'opposite',
    templates: {
      zh: [
        '“{x}”的反义词是什么？',
        '{x}的反面是什么？',
        '与“{x}”相反的词是什么？',
        '{x}反过来怎么说？',
        '哪个词是{x}的反义词？',
        '写出“{x}”的反义词。',
        '什么词与{x}相反？',
        '{x}的对立面是什么？',
      ],
      en: [
        'What is the opposite of {x}?',
        'Which word is the opposite of {x}?',
        'Give the opposite of {x}.',
        'Tell me the opposite of {x}.',
        'What is {x} turned around?',
        'The opposite of {x} is what?',
        'What word means not {x}?',
        'Which word is contrary to {x}?',
      ],
    },
    statement: p('{x}的反义词是{v}', 'The opposite of {x} is {v}'),
    explanations: [
      p('这两个词意思相反', 'The two words mean contrary things'),
      p('{v}就是不{x}', 'Something {v} is not {x}'),
    ],
    entities: pairs(`
大|big|小|small
热|hot|冷|cold
高|tall|矮|short
快|fast|慢|slow
长|long|短|brief
新|new|旧|old
亮|bright|暗|dark
重|heavy|轻|light
干|dry|湿|wet
硬|hard|软|soft
远|far|近|near
深|deep|浅|shallow
早|early|晚|late
强|strong|弱|weak
贫|poor|富|rich
满|full|空|empty
厚|thick|薄|thin
宽|wide|窄|narrow
甜|sweet|苦|bitter
开|open|关|closed`),
  },
  {
    id: 'colour',
    templates: {
      zh: [
        '{x}是什么颜色？',
        '{x}的颜色是什么？',
        '{x}一般是哪种颜色？',
        '{x}是哪种颜色的？',
        '说出{x}的颜色。',
        '说说{x}的颜色。',
        '{x}看起来是什么颜色？',
        '{x}带什么颜色？',
      ],
      en: [
        'What colour is {x}?',
        'Which colour does {x} have?',
        'Name the colour of {x}.',
        'Tell me the colour of {x}.',
        'Of what colour is {x}?',
        'The colour of {x} is what?',
        'What is the colour of {x}?',
        '{x} has which colour?',
      ],
    },
    statement: p('{x}是{v}', 'The colour of {x} is {v}'),
    explanations: [
      p('很多人见过{x}', 'Many people have seen it'),
      p('{v}很容易认出', 'The colour {v} is easy to see'),
    ],
    entities: pairs(`
天空|the sky|蓝色|blue
草|grass|绿色|green
雪|snow|白色|white
煤|coal|黑色|black
血|blood|红色|red
香蕉|a banana|黄色|yellow
橙子|an orange|橙色|orange
树叶|a leaf|绿色|green
牛奶|milk|白色|white
太阳花|a sunflower|黄色|yellow
海水|the sea|蓝色|blue
乌鸦|a crow|黑色|black
西红柿|a tomato|红色|red
葡萄|a grape|紫色|purple
柠檬|a lemon|黄色|yellow
云|a cloud|白色|white
茄子|an eggplant|紫色|purple
消防车|a fire engine|红色|red
黄瓜|a cucumber|绿色|green
胡萝卜|a carrot|橙色|orange`),
  },
  {
    id: 'sum',
    templates: {
      zh: [
        '{x}等于几？',
        '{x}是多少？',
        '算一下{x}。',
        '{x}得多少？',
        '{x}的答案是几？',
        '{x}的结果是几？',
        '请计算{x}。',
        '{x}一共是多少？',
      ],
      en: [
        'What is {x}?',
        'How much is {x}?',
        'Work out {x}.',
        'Tell me {x}.',
        'What does {x} equal?',
        'Compute {x}.',
        '{x} makes what?',
        '{x} gives what number?',
      ],
    },
    statement: p('{x}等于{v}', '{x} equals {v}'),
    explanations: [
      p('把两个数加起来就行', 'Just add the two numbers'),
      p('可以用手指数一数', 'You can count it on your fingers'),
    ],
    entities: [1, 2, 3, 4, 5, 6].flatMap((a) =>
      [1, 2, 3, 4].map((b) => ({
        x: p(`${a}加${b}`, `${a} plus ${b}`),
        v: p(`${a + b}`, `${a + b}`),
      })),
    ),
  },
  {
    id: 'count',
    templates: {
      zh: [
        '{x}？',
        '你知道{x}吗？',
        '说说{x}。',
        '请说出{x}。',
        '{x}，请回答。',
        '{x}呢？',
        '告诉我{x}。',
        '问一下{x}。',
      ],
      en: [
        '{x}?',
        'Do you know {x}?',
        'Say {x}.',
        'Please say {x}.',
        'Can you say {x}?',
        'So, {x}?',
        'Tell me {x}.',
        'Answer {x}.',
      ],
    },
    statement: p('答案是{v}', 'The answer is {v}'),
    explanations: [
      p('这是常识', 'That is common knowledge'),
      p('书上都这样写', 'The books agree on it'),
    ],
    entities: pairs(`
世界上有几大洲|how many continents there are|七大洲|seven
世界上有几大洋|how many oceans there are|四大洋|four
一周有几天|how many days a week has|七天|seven
一年有几个月|how many months a year has|十二个月|twelve
一年有几个季节|how many seasons a year has|四个季节|four
三角形有几条边|how many sides a triangle has|三条边|three
正方形有几条边|how many sides a square has|四条边|four
一只手有几根手指|how many fingers a hand has|五根手指|five
蜘蛛有几条腿|how many legs a spider has|八条腿|eight
昆虫有几条腿|how many legs an insect has|六条腿|six
猫有几条腿|how many legs a cat has|四条腿|four
人有几只眼睛|how many eyes a person has|两只眼睛|two
一打有几个|how many make a dozen|十二个|twelve
彩虹有几种颜色|how many colours a rainbow has|七种颜色|seven
一天有几小时|how many hours a day has|二十四小时|twenty-four
自行车有几个轮子|how many wheels a bicycle has|两个轮子|two`),
  },
]
