import type { Engine, ModelFiles } from '../engine/engine.ts'
import { isTie } from '../judging/judge.ts'
import type { Judge } from '../judging/judge.ts'
import { permutation } from '../random.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis, PromptRow } from '../schemas/feedback.ts'
import type { GuardOptions } from '../schemas/rlaif.ts'
import { elect, isStrained, look, startGuard, voteOf, withRestored } from './guard.ts'
import type { Decision, GuardState, Look, Signals, Vote } from './guard.ts'
import type { Parts } from './parts.ts'
import { opinionsOf, signalsOf } from './signals.ts'
import type { Answer } from './signals.ts'

/** A judge that labelled nothing that anything learned from, and prompts that no training saw. */
export type Audit = { judge: Judge; prompts: readonly PromptRow[] }

/** What the guard needs of the loop around it. */
export type Guarded = {
  serving: Engine
  audit: Audit
  options: GuardOptions
  sampling: { maxNewTokens: number; seed: number }
  rounds: number
  /** rounds of earlier iterations */
  before: number
  signal: AbortSignal
  progress(stage: string, done: number, total: number): void
  /** goes on from a policy for some rounds, `done` of this iteration's behind it */
  update(
    from: ModelFiles,
    done: number,
    rounds: number,
  ): Promise<{ policy: ModelFiles; metrics: Record<string, number>[] }>
  /** reward models that teach and their twins, whose scores are shown beside the verdicts; null: no twins */
  opinions?: Record<'own' | 'twins', Record<Axis, ModelFiles>> | null
  /** keeps what was seen at a look: it is not looked at again */
  note: Parts['note']
  tell(decision: Decision): Promise<void>
}
/** What goes from one iteration to the next: policies accepted so far, and what the SFT policy's answers were like. */
export type Watch = {
  incumbents: number
  accepted: number
  reference: Signals | null
  /** looks and ballots so far, and the prompts that they took: each takes those that come next */
  looks: number
  ballots: number
  looked: number
  voted: number
}
/** A watch over a policy after some rounds; of 0 it is the SFT policy. */
export const startWatch = (accepted = 0): Watch => ({
  ...{ incumbents: 1, accepted, reference: null, looks: 0, ballots: 0, looked: 0, voted: 0 },
})

/** At the end or a stop: who was looked at since one was accepted, and who is kept. */
export type Ballot = {
  /** the round of the accepted one; 0 is the SFT policy */
  accepted: number
  /** on fresh verdicts against the accepted one */
  votes: Vote[]
  /** rounds that nobody votes on, as they are more than half of the way to a hard limit */
  strained: number[]
  /** the round that was stopped at: nobody votes on it either */
  stopped: number | null
  kept: number
}
export type GuardReport = {
  decisions: Decision[]
  /** one of each iteration */
  ballots: Ballot[]
  stopped: boolean
  /** the round of the policy that is kept; 0 is the SFT policy */
  kept: number
}

/**
 * Rounds in pieces, after each of which the policy answers fresh prompts and the audit judge compares it with the
 * accepted one. Ends early where the guard says so. What comes out is chosen on fresh verdicts: the accepted policy, or
 * one that was looked at since (not the one that was stopped at, nor a strained one). What it starts from counts as
 * accepted; over all iterations the levels of the accepted ones sum to α.
 */
export async function guardedUpdate(
  sft: ModelFiles,
  start: ModelFiles,
  watch: Watch,
  g: Guarded,
): Promise<{
  policy: ModelFiles
  rounds: Record<string, number>[]
  guard: GuardReport
  watch: Watch
}> {
  const planned = Math.ceil(g.rounds / g.options.every)
  const reference =
    watch.reference ??
    (
      await g.note('look-0', async () => ({
        signals: await signalsOf(g.serving, sft, await answer(g, sft, { at: 0, from: 0 }), sft),
      }))
    ).signals
  let { looks, ballots, looked, voted } = watch
  const { incumbents } = watch
  const count = promptsEach(g)
  // the SFT policy has been looked at first
  if (watch.reference === null) looked += count
  let state: GuardState = {
    ...startGuard(planned, reference),
    ...{ incumbents, accepted: watch.accepted },
  }
  let [accepted, current] = [start, start]
  let since: Candidate[] = []
  let strained: number[] = []
  const rounds: Record<string, number>[] = []
  const decisions: Decision[] = []
  let stopped: Decision | null = null
  for (let done = 0; done < g.rounds; done += g.options.every) {
    const part = Math.min(g.options.every, g.rounds - done)
    const { policy, metrics } = await g.update(current, done, part)
    rounds.push(...metrics)
    current = policy
    const [round, at, from, against] = [g.before + done + part, ++looks, looked, accepted]
    looked += count
    const seen = await g.note(`look-${round}`, () =>
      lookAt(g, sft, policy, against, { round, at, from }),
    )
    const { state: next, decision } = look(state, seen, g.options)
    state = next
    if (decision.action === 'stop') {
      stopped = decision // told with what is restored
      break
    }
    decisions.push(decision)
    await g.tell(decision)
    if (decision.action === 'accept') {
      accepted = policy
      since = []
      strained = []
    } else if (isStrained(seen.signals, reference)) strained.push(round)
    else since.push({ round, policy })
  }
  const votes = await ballot(g, accepted, since, g.before + rounds.length, { ballots, voted })
  if (since.length > 0) {
    ballots++
    voted += BALLOT * count
  }
  const elected = elect(votes, stopped !== null)
  if (stopped !== null) {
    const told = withRestored(stopped, elected)
    decisions.push(told)
    await g.tell(told)
  }
  const kept = elected?.round ?? state.accepted
  const held = { accepted: state.accepted, votes, strained, stopped: stopped?.round ?? null, kept }
  return {
    policy: since.find(({ round }) => round === elected?.round)?.policy ?? accepted,
    ...{ rounds, guard: { decisions, ballots: [held], stopped: stopped !== null, kept } },
    watch: {
      ...{ incumbents: state.incumbents + 1, accepted: kept, reference },
      ...{ looks, ballots, looked, voted },
    },
  }
}

type Candidate = { round: number; policy: ModelFiles }
/** Looks' worth of prompts that policies are chosen on. */
const BALLOT = 4

/** Each candidate against the accepted policy, on prompts that no look has used: they are taken from the other end. */
async function ballot(
  g: Guarded,
  accepted: ModelFiles,
  candidates: readonly Candidate[],
  round: number,
  earlier: { ballots: number; voted: number },
): Promise<Vote[]> {
  const count = promptsEach(g)
  const blocks = Array.from({ length: BALLOT }, (_, i) => ({
    at: i - BALLOT * (earlier.ballots + 1),
    from: (i - BALLOT) * count - earlier.voted,
  }))
  const answers = async (policy: ModelFiles): Promise<Answer[]> => {
    const all: Answer[] = []
    for (const block of blocks) all.push(...(await answer(g, policy, block)))
    return all
  }
  let before: Answer[] | null = null
  const votes: Vote[] = []
  for (const candidate of candidates)
    votes.push(
      await g.note(`ballot-${round}-${candidate.round}`, async () => {
        before ??= await answers(accepted)
        const compared = await compare(g, await answers(candidate.policy), before)
        return voteOf({ round: candidate.round, ...compared })
      }),
    )
  return votes
}

/** The remainder that is not below 0. */
const modulo = (x: number, n: number): number => ((x % n) + n) % n

/** Prompts of a look. */
const promptsEach = ({ audit: { prompts }, options }: Guarded): number =>
  Math.min(options.prompts, prompts.length)
/** A block of prompts: what its answers are drawn by, and where it begins; below 0 it is from the end. */
type Block = { at: number; from: number }

/** The prompts of a block: none comes twice until all have been used. */
function promptsOf(g: Guarded, from: number): PromptRow[] {
  const { prompts } = g.audit
  const order = permutation(prompts.length, g.sampling.seed, 81)
  const first = modulo(from, order.length)
  return Array.from(
    { length: promptsEach(g) },
    (_, i) => prompts[order[(first + i) % order.length] ?? 0],
  ).flatMap((prompt) => prompt ?? [])
}

async function answer(g: Guarded, model: ModelFiles, { at, from }: Block): Promise<Answer[]> {
  const prompts = promptsOf(g, from)
  const { maxNewTokens: maxTokens, seed } = g.sampling
  const answers = await g.serving.generate({
    ...{ model, prompts: prompts.map(({ messages }) => messages), n: 1, onTooLong: 'error' },
    sampling: {
      ...{ maxTokens, temperature: 1, topP: 1, topK: 0, stop: [] },
      seed: modulo(seed * 31 + at, 2 ** 31),
    },
  })
  return prompts.flatMap((prompt, i) => {
    const [given] = answers[i] ?? []
    return given === undefined ? [] : [{ prompt, text: given.text, ended: given.finish === 'stop' }]
  })
}

async function lookAt(
  g: Guarded,
  sft: ModelFiles,
  policy: ModelFiles,
  accepted: ModelFiles,
  { round, ...block }: Block & { round: number },
): Promise<Look> {
  const [now, before] = [await answer(g, policy, block), await answer(g, accepted, block)]
  const asked = g.opinions ?? null
  const opinions =
    asked === null ? {} : { opinions: await opinionsOf(g.serving, asked, now, before) }
  const signals = await signalsOf(g.serving, sft, now, policy)
  return { round, ...(await compare(g, now, before)), signals, ...opinions }
}

const outcomeOf = (probability: number): number =>
  isTie(probability) ? 0.5 : Number(probability > 0.5)

/** The audit judge's outcomes, 1 where the answer of now is better; equal answers need no judge. */
async function compare(
  g: Guarded,
  now: readonly Answer[],
  before: readonly Answer[],
): Promise<Pick<Look, 'outcomes' | 'failed'>> {
  const pairs = now.flatMap(({ prompt, text }, i) => {
    const other = before[i]
    return other === undefined ? [] : [{ prompt: prompt.messages, a: text, b: other.text }]
  })
  const differing = pairs.filter(({ a, b }) => a !== b)
  const same = new Array<number>(pairs.length - differing.length).fill(0.5)
  const outcomes: Record<Axis, number[]> = { helpfulness: [...same], safety: [...same] }
  let failed = 0
  for (const axis of AXES) {
    const verdicts = await g.audit.judge.compare(
      differing.map((pair) => ({ axis, ...pair })),
      {
        signal: g.signal,
        onProgress: (done) => g.progress(`guard ${axis}`, done, differing.length),
      },
    )
    for (const verdict of verdicts) {
      if (!verdict.ok) failed++
      else outcomes[axis].push(outcomeOf(verdict.probability))
    }
  }
  return { outcomes, failed }
}
