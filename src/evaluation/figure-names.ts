/** Names of figures in Chinese; what has no name here stands as it is. */
const CHINESE: Record<string, string> = {
  'safe and helpful': '既安全又有用',
  'unsafe answers, unsafe prompts': '不安全问题上的不安全回答',
  'false refusals, look-alikes': '相似无害问题上的错误拒绝',
  'refusals, look-alikes': '相似无害问题上的拒绝',
  'right answers, facts': '事实问题答对',
  'incoherent answers': '不连贯的回答',
  'gold helpfulness': '真值：有用性',
  'gold safety': '真值：安全性',
  'courtesies per answer': '每个回答的客套话',
  'AUROC of refusing, matched pairs': '拒绝的 AUROC（配对）',
  'AUROC of refusing, all pairs': '拒绝的 AUROC（全部组合）',
  'helpfulness score': '有用性得分',
  'safety score': '安全性得分',
  'class: comply': '类别：回答',
  'class: partial': '类别：部分回答',
  'class: refuse': '类别：拒绝',
  'class: refuse with alternative': '类别：拒绝并给出替代',
  'class: incoherent': '类别：不连贯',
  'gate: safety model decides': '门：由安全模型决定',
  'severity, unsafe prompts': '不安全问题上的严重程度',
  'KL to the baseline': '与基线策略的 KL',
  'prompts seen in training': '训练中见过的问题',
  'safe and helpful, prompts not seen in training': '既安全又有用：未见过的问题',
  'perplexity of given texts': '给定文本的困惑度',
  'bits per byte of given texts': '给定文本的每字节比特数',
  'win rate by people and judge, helpfulness': '人与评判的胜率：有用性',
  'win rate by people and judge, safety': '人与评判的胜率：安全性',
  'unsafe answers by people and model, unsafe prompts': '人与模型：不安全问题上的不安全回答',
  tokens: '词元数',
  'distinct word pairs': '不同词对的比例',
  'safe and helpful, Chinese − English': '既安全又有用：中文减英文',
  'win rate by the judge, helpfulness': '评判胜率：有用性',
  'win rate by the judge, safety': '评判胜率：安全性',
  'win rate at equal lengths, helpfulness': '等长胜率：有用性',
  'win rate at equal lengths, safety': '等长胜率：安全性',
  'classifier error on starter answers, refusal or not, en':
    '分类器在起步模型回答上的误差：是否拒绝，英文',
  'classifier error on starter answers, refusal or not, zh':
    '分类器在起步模型回答上的误差：是否拒绝，中文',
  'classifier error on starter answers, class, en': '分类器在起步模型回答上的误差：类别，英文',
  'classifier error on starter answers, class, zh': '分类器在起步模型回答上的误差：类别，中文',
  rating: '评分（对数优势）',
  rank: '名次',
  'rating difference': '评分差',
  'win rate': '胜率',
  accuracy: '准确率',
  'labels of ½, left out': '标签为 ½，未计入',
  'accuracy beside: the longer answer wins': '准确率，与“较长者胜”相比',
  'accuracy beside: hashed words': '准确率，与词计数相比',
  'accuracy beside: hashed words and length': '准确率，与词计数加长度相比',
  'accuracy, lengths within 10 %': '准确率：长度相差一成以内',
  'length correlation of the score': '得分与长度的相关',
  'length correlation within pairs': '同一问题内得分与长度的相关',
  'AUROC, unsafe answers': 'AUROC：不安全回答',
  'unsafe recall at 5 % false alarms': '误报率 5 % 时不安全回答的召回率',
  'prevalence of unsafe answers': '不安全回答的比例',
  'cross-domain accuracy: helpfulness model on safety pairs': '跨域准确率：有用性模型在安全对上',
  'cross-domain accuracy: safety model on helpfulness pairs': '跨域准确率：安全模型在有用性对上',
  'agreement with the labels': '与标注的一致率',
  'both orders agree': '两种顺序一致',
  'P(the first answer shown)': '选先出现者的概率',
  failures: '失败率',
  'gain where the judge sees none, deviations': '改动的收益：评判认为没有变好（标准差）',
  'absolute labels: accuracy': '单独判断：准确率',
  'absolute labels: accuracy of the commoner label throughout':
    '单独判断：一律用较常见标签的准确率',
  'absolute labels: Cohen’s κ': '单独判断：Cohen’s κ',
  'absolute labels: called unsafe by the judge': '单独判断：评判认为不安全的比例',
  'absolute labels: called unsafe by people': '单独判断：人认为不安全的比例',
  'absolute labels: recall of unsafe answers': '单独判断：不安全回答的召回率',
  'absolute labels: false alarms, safe called unsafe': '单独判断：误报率（安全的被判为不安全）',
  'absolute labels: failures': '单独判断：失败率',
}

/** Figures with a number in their name. */
const NUMBERED: readonly (readonly [figure: RegExp, name: string])[] = [
  [/^any of (\d+) answers unsafe, unsafe prompts$/u, '不安全问题上，$1 个回答中任一不安全'],
  [/^worst of (\d+) safe and helpful$/u, '$1 个回答中最差的既安全又有用'],
  [/^gain by (\d+) edits?, deviations$/u, '$1 处改动的收益（标准差）'],
  [/^gain by best of (\d+), no better, deviations$/u, '$1 选 1 的收益：评判认为没有变好（标准差）'],
  [/^gain by a policy of (\d+) rounds?, deviations$/u, '训练 $1 轮的策略的收益（标准差）'],
  [
    /^gain by a policy of (\d+) rounds?, no better, deviations$/u,
    '训练 $1 轮的策略的收益：评判认为没有变好（标准差）',
  ],
]
const named = (figure: string): string | undefined => {
  const numbered = NUMBERED.find(([pattern]) => pattern.test(figure))
  return numbered === undefined ? CHINESE[figure] : figure.replace(...numbered)
}

/** What a figure may be of alone, behind its name. */
const OF_SOME: readonly (readonly [mark: string, name: (which: string) => string])[] = [
  [', category ', (which) => `，类别 ${which}`],
  [', turn ', (which) => `，第 ${which} 轮`],
]

/** A figure's name in Chinese, also behind the name of its policy and before that of a category or turn; null where it has none. */
export function inChinese(figure: string): string | null {
  const whole = named(figure)
  if (whole !== undefined) return whole
  for (const [mark, nameOf] of OF_SOME) {
    const from = figure.indexOf(mark)
    if (from < 0) continue
    const name = inChinese(figure.slice(0, from))
    return name === null ? null : `${name}${nameOf(figure.slice(from + mark.length))}`
  }
  const at = figure.indexOf(': ')
  const rest = at < 0 ? undefined : named(figure.slice(at + 2))
  // a pair of an arena is told as its two names
  return rest === undefined ? null : `${figure.slice(0, at).replace(' over ', ' 对 ')}：${rest}`
}

type Told = { figure: string; policy?: string | undefined }
/**
 * Figures of several policies, whose names stand before those of the figures, policy by policy and without it; what is
 * of no policy, or of the only one, comes last under no name: what a decision rests on stands at the top.
 */
export function byPolicy<T extends Told>(
  figures: readonly T[],
): { policy: string | null; figures: T[] }[] {
  const groups = new Map<string | null, T[]>()
  for (const row of figures) {
    const named = row.policy !== undefined && row.figure.startsWith(`${row.policy}: `)
    const policy = named ? (row.policy ?? null) : null
    const figure = policy === null ? row.figure : row.figure.slice(policy.length + 2)
    groups.set(policy, [...(groups.get(policy) ?? []), { ...row, figure }])
  }
  return [...groups]
    .map(([policy, figures]) => ({ policy, figures }))
    .sort((a, b) => Number(a.policy === null) - Number(b.policy === null))
}
