import type { ModelFiles } from '../engine/engine.ts'
import { bestOfKlBound } from '../evaluation/best-of.ts'
import type { PolicyFigure } from '../evaluation/policy-measures.ts'
import { languageOf } from '../evaluation/response-class.ts'
import { loadTokenizer } from '../text/tokenizer.ts'
import type { Tokenizer } from '../text/tokenizer.ts'
import { clusteredMean } from '../evaluation/statistics.ts'
import { bestByGate } from '../evaluation/trade-off.ts'
import type { Baseline } from '../schemas/evaluation.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis } from '../schemas/feedback.ts'
import { answerLogprobs, answerPrompts, clusterOf, PART, scoreAnswers } from './policy-answers.ts'
import type { Answer, AskedPrompt, Asking } from './policy-answers.ts'
import type { Services } from './services.ts'
import { askedOf, converse, withSystem } from './turns.ts'
import type { Conversed } from './turns.ts'

/** Of best of n: more is not sampled, and a warning says so. */
const MOST = 64
const REFUSALS = {
  zh: '抱歉，我不能帮助做这件事。',
  en: 'I am sorry, but I cannot help with that.',
} as const

/** Of those that the baseline on keywords gives. */
export const longestRefusal = (tokenizer: Tokenizer): number =>
  Math.max(...Object.values(REFUSALS).map((text) => refusalTokens(tokenizer, text)))
/** The end of the turn with it, as of a sampled answer. */
const refusalTokens = (tokenizer: Tokenizer, text: string): number =>
  tokenizer.encode(text).length + 1

export type BaselineOptions = {
  baselines: readonly Baseline[]
  system_prompt: string
  refuse_words: readonly string[]
}
type Contender = { name: string; files: ModelFiles }
type Input = Omit<Asking, 'options'> & {
  options: Asking['options'] & BaselineOptions & { threshold: number }
  rewards: Record<Axis, ModelFiles>
}
type Beside = Conversed & { name: string }

/**
 * The n of best-of-n at a KL: the least n with ln n − (n − 1)/n ≥ kl. That is an upper bound of its KL (duplicates and
 * ties; Beirami et al. 2024), so that it is not given more than it may have gone.
 */
export function samplesAtKl(kl: number): number {
  let n = 1
  while (n < MOST && bestOfKlBound(n) < kl) n++
  return n
}

/**
 * What the first policy can be beaten by without training: `answered` are the answers of the reference and of the
 * policies. Comes with everybody's KL to the reference, mean over answers of log π(y|x) − log π_ref(y|x).
 */
export async function baselinesBeside(
  services: Pick<Services, 'serving'>,
  { reference, policies }: { reference: Contender; policies: readonly Contender[] },
  answered: readonly Conversed[],
  input: Input,
): Promise<{ beside: Beside[]; figures: PolicyFigure[]; warnings: string[] }> {
  const { options } = input
  const warnings: string[] = []
  const own = answered[0] ?? { asked: [], answers: [] }
  const clusters = own.asked.map(clusterOf)
  const figures: PolicyFigure[] = []
  const tell = (policy: string, kl: readonly number[]): number => {
    const figure = { figure: 'KL to the baseline', policy }
    figures.push({ ...figure, ...clusteredMean(kl, clusters, options.seed) })
    return figures.at(-1)?.value ?? NaN
  }
  const logprobs = (
    { name, files }: Contender,
    answers: readonly (readonly Answer[])[],
    asked: readonly AskedPrompt[],
  ) =>
    answerLogprobs(services, { stage: `likelihood by ${name}`, model: files }, answers, {
      ...input,
      prompts: asked,
    })
  const apart = (own: readonly number[][], other: readonly number[][]): number[] =>
    own.map((samples, i) => mean(samples.map((logprob, s) => logprob - (other[i]?.[s] ?? NaN))))
  // 1. how far the policies went
  const went: number[] = []
  for (const [k, policy] of policies.entries()) {
    const { answers, asked } = answered[k + 1] ?? own
    const now = await logprobs(policy, answers, asked)
    went.push(tell(policy.name, apart(now, await logprobs(reference, answers, asked))))
  }
  // 2. what goes as far, or needs no training at all
  const beside: Beside[] = []
  if (options.baselines.includes('best_of_n')) {
    const kl = went[0] ?? NaN
    const n = samplesAtKl(kl)
    const bound = bestOfKlBound(n)
    if (bound < kl)
      warnings.push(
        `best of ${n} stays below the policy’s KL of ${kl.toFixed(2)}: no more than ${MOST} answers are sampled`,
      )
    const name = `best of ${n}`
    const best = await converse(input, (asking, turn) =>
      bestOf(
        services,
        n,
        { name: askedOf(name, turn), files: reference.files },
        {
          ...{ ...input, ...asking, options: { ...options, ...asking.options } },
        },
      ),
    )
    beside.push({ name, ...best })
    tell(name, new Array<number>(best.asked.length).fill(bound))
  }
  if (options.baselines.includes('system_prompt')) {
    const name = 'system prompt'
    const under = (asked: readonly AskedPrompt[]) => withSystem(asked, options.system_prompt)
    const { asked, answers } = await converse(input, (asking, turn) =>
      answerPrompts(
        services,
        { name: askedOf(name, turn), files: reference.files },
        { ...asking, prompts: under(asking.prompts) },
      ),
    )
    beside.push({ name, asked, answers })
    const now = await logprobs(reference, answers, under(asked))
    tell(name, apart(now, await logprobs(reference, answers, asked)))
  }
  if (options.baselines.includes('refuse_on_keyword')) {
    const name = 'refuse on keyword'
    const tokenizer = await loadTokenizer(reference.files.base)
    const refused = await refuseOnKeyword(own, input, tokenizer)
    beside.push({ name, ...refused })
    const flagged = refused.asked.flatMap((turn, i) => (hasWord(turn, options) ? [i] : []))
    const costs = await logprobs(
      reference,
      flagged.map((i) => refused.answers[i]?.slice(0, 1) ?? []),
      flagged.flatMap((i) => refused.asked[i] ?? []),
    )
    // where it always refuses its KL is −log π_ref of the refusal, elsewhere it is the reference
    const kl = refused.asked.map(() => 0)
    flagged.forEach((i, k) => (kl[i] = -(costs[k]?.[0] ?? NaN)))
    tell(name, kl)
  }
  return { beside, figures, warnings }
}

/** The reference's own answers, and from the first word of a conversation that is on the list refusals alone. */
function refuseOnKeyword(own: Conversed, input: Input, tokenizer: Tokenizer): Promise<Conversed> {
  const said = new Map(own.asked.map(({ question, turn }, i) => [`${question}:${turn}`, i]))
  return converse(input, ({ prompts }, turn) =>
    Promise.resolve(
      prompts.map((asked): Answer[] => {
        const answers = own.answers[said.get(`${asked.question}:${turn}`) ?? 0] ?? []
        if (!hasWord(asked, input.options)) return answers
        const text = REFUSALS[languageOf(asked.messages.at(-1)?.content ?? '')]
        const tokens = refusalTokens(tokenizer, text)
        return answers.map(() => ({ text, ended: true, tokens }))
      }),
    ),
  )
}

const NOTHING: Answer = { text: '', ended: true, tokens: 0 }
const mean = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0) / list.length
/** Whether the user has said one of the words. */
const hasWord = ({ messages }: AskedPrompt, { refuse_words: words }: BaselineOptions): boolean =>
  messages.some(
    ({ role, content }) =>
      role === 'user' && words.some((word) => content.toLowerCase().includes(word.toLowerCase())),
  )

/** For each answer that is wanted the best of n of the reference's, as the gate orders them. */
async function bestOf(
  services: Pick<Services, 'serving'>,
  n: number,
  { name, files }: Contender,
  { prompts, options, rewards, ...asking }: Input,
): Promise<Answer[][]> {
  const chosen: Answer[][] = []
  const size = Math.max(1, Math.floor(PART / n))
  for (let i = 0; i < prompts.length; i += size) {
    const part = prompts.slice(i, i + size)
    // other draws than the reference's own
    const seed = (options.seed + 1_000_003 + i) % 2 ** 31
    const quiet = { signal: asking.signal, prompts: part }
    const answers = await answerPrompts(
      services,
      { name, files },
      { ...quiet, options: { ...options, samples: n * options.samples, seed } },
    )
    const scores = { helpfulness: [] as number[][], safety: [] as number[][] }
    for (const axis of AXES)
      scores[axis] = await scoreAnswers(
        services,
        { stage: name, model: rewards[axis] },
        answers,
        quiet,
      )
    chosen.push(
      ...answers.map((all, p) => {
        const scored = all.map((answer, s) => ({
          answer,
          helpfulness: scores.helpfulness[p]?.[s] ?? NaN,
          safety: scores.safety[p]?.[s] ?? NaN,
        }))
        return Array.from({ length: options.samples }, (_, s) => {
          const group = scored.slice(s * n, (s + 1) * n)
          return bestByGate(group, part[p]?.prompt_class, options.threshold)?.answer ?? NOTHING
        })
      }),
    )
    await asking.progress?.(`answers of ${name}`, chosen.length, prompts.length)
  }
  return chosen
}
