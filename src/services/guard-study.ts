import { existsSync } from 'node:fs'
import { appendFile, mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { starterFolder } from '../config.ts'
import { withCheckpoint } from '../engine/engine.ts'
import type { Engine, ModelFiles } from '../engine/engine.ts'
import { createLocalJudge } from '../judging/local-judge.ts'
import { counterfactualPairs } from '../rlaif/counterfactuals.ts'
import { guardedUpdate, startWatch } from '../rlaif/guarded.ts'
import { labelPrompts } from '../rlaif/label.ts'
import { calibrateReward, splitForCalibration } from '../rlaif/reward.ts'
import { writeRows } from '../rlaif/rows.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis, PreferenceRow } from '../schemas/feedback.ts'
import { GuardOptions, RlaifOptions } from '../schemas/rlaif.ts'
import type { TrainSpec } from '../schemas/training.ts'
import { sftDialogues } from '../starter/corpus.ts'
import { answerAndGrade } from '../starter/evaluate.ts'
import { prompts } from '../starter/world.ts'
import type { Split, StarterPrompt } from '../starter/world.ts'
import { wholeLines } from '../text/rows.ts'
import { readJson, writeJson } from '../weights/json.ts'
import { FAILURES, HONEST, leaning, relabel, USUAL } from './guard-failures.ts'
import type { Failure } from './guard-failures.ts'
import type { StudyLoop } from './guard-study-figures.ts'

/** Fresh prompts on which gold grades each policy of a loop. */
const GRADED = 200
const ROUNDS = 30
const GUARD = GuardOptions.parse({ every: 5, prompts: 64 })
const DIALOGUES = 400
const PAIRS = 200
const MAX_TOKENS = 32
const LEARNING_RATE = 2e-3

/** Facts hardly move in so short a loop, and there are more of them than of all else. */
const asked = (split: Split, seed: number): StarterPrompt[] =>
  prompts(split, seed).filter(({ family }) => family !== 'fact')
const rowsOf = (list: readonly StarterPrompt[]) =>
  list.map(({ id, messages }) => ({ id, messages }))
const filesOf = ({ base, adapters }: ModelFiles) => ({ base, adapters: [...adapters] })
const judgeOf = (engine: Engine, name: string) =>
  createLocalJudge(engine, { base: join(starterFolder, name), adapters: [] }, name, { by: 'score' })

/** The loop's options in small. */
function optionsOf(seed: number, failure: Omit<Failure, 'name' | 'guards'>): RlaifOptions {
  const { hard, kl, endless, epochs, counterfactuals, pairs } = failure
  const steady = { schedule: 'constant', warmup_fraction: 0, weight_decay: 0 }
  return RlaifOptions.parse({
    ...{ seed, dialogues: DIALOGUES, pairs: PAIRS, counterfactuals },
    sft: { epochs: 1, batch_size: 32, seed },
    reward_model: { epochs, batch_size: pairs < 100 ? 8 : 16, seed },
    ppo: {
      ...{ rounds: ROUNDS, prompts_per_round: 32, mini_batch_size: 16, seed },
      ...{ max_new_tokens: MAX_TOKENS, optimizer: { learning_rate: LEARNING_RATE } },
      kl_coef: kl,
      ...(endless && { missing_eos_penalty: 0 }),
      ...(hard && { optimizer: { ...steady, learning_rate: LEARNING_RATE } }),
    },
  })
}

async function train(engine: Engine, spec: TrainSpec): Promise<Record<string, number>[]> {
  const steps: Record<string, number>[] = []
  for await (const event of engine.train(spec))
    if (event.type === 'metrics') steps.push(event.metrics)
  return steps
}

/** Gold's word on one answer to each fresh test prompt, the same prompts for all policies of a seed. */
async function grade(engine: Engine, model: ModelFiles, seed: number): Promise<string> {
  const test = asked('test', seed).slice(0, GRADED)
  const graded = await answerAndGrade(engine, model, test, MAX_TOKENS, seed * 7919, () => {})
  return graded.map(({ gold }) => Number(gold.safe && gold.helpful)).join('')
}

/** What was done before, or the work anew in an empty folder; its result is written last. */
async function once<T extends object>(folder: string, work: () => Promise<T>): Promise<T> {
  const file = join(folder, 'done.json')
  if (existsSync(file)) return (await readJson(file)) as T
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  const result = await work()
  await writeJson(file, result)
  return result
}

/** What all loops of a seed start from: the SFT policy, and its answers compared by the starter judge. */
type Start = {
  seed: number
  sft: ModelFiles
  gold: string
  pairs: Record<Axis, PreferenceRow[]>
}
async function startOf(engine: Engine, folder: string, seed: number): Promise<Start> {
  const output = join(folder, 'sft')
  const model = { base: join(starterFolder, 'base'), adapters: [] }
  const { sft: options } = optionsOf(seed, USUAL)
  const dialogues = sftDialogues(seed, DIALOGUES)
  const { path: data } = await writeRows(join(folder, 'dialogues.jsonl'), dialogues)
  await train(engine, { kind: 'sft', output, model, data, options })
  const sft = withCheckpoint(model, output, options.lora)
  const { pairs } = await labelPrompts(
    ...([engine, judgeOf(engine, 'judge'), sft] as const),
    ...([rowsOf(asked('train', seed)).slice(0, PAIRS), AXES] as const),
    { maxNewTokens: MAX_TOKENS, temperature: 1, seed: seed * 1000 },
    () => {},
  )
  return { seed, sft, pairs, gold: await grade(engine, sft, seed) }
}

async function trainReward(
  engine: Engine,
  folder: string,
  { sft, seed, pairs }: Start,
  axis: Axis,
  failure: Failure,
) {
  const { labels, pairs: most, counterfactuals } = failure
  const given = pairs[axis].slice(0, most)
  const rows = labels === undefined ? given : given.map((row) => relabel(row, labels))
  const { training, held } = splitForCalibration(rows, seed)
  // as in the loop: nothing idle pays on safety
  const share = axis === 'helpfulness' ? counterfactuals : 0
  const learned = [...training, ...counterfactualPairs(training, share, seed)]
  const { path: data } = await writeRows(join(folder, `${axis}.jsonl`), learned)
  const [raw, output] = [join(folder, `${axis}-raw`), join(folder, axis)]
  const { reward_model: options } = optionsOf(seed, failure)
  await train(engine, {
    ...{ kind: 'reward_model', output: raw, model: filesOf(sft), data },
    options: { ...options, axis },
  })
  const trained = withCheckpoint(sft, raw, options.lora)
  const dataHash = `${failure.name}-${seed}`
  const { calibration } = await calibrateReward(engine, trained, output, {
    ...{ axis, held, dataHash, seed, references: null },
  })
  return { files: filesOf(withCheckpoint(sft, output, options.lora)), calibration }
}

/** A policy of the loop, in the state in which the guard looks at it. */
type Step = { round: number; policy: ModelFiles; metrics: Record<string, number>[]; gold: string }

/** All rounds of a loop, as they go where nobody stops them, every policy that a guard would see graded by gold. */
async function pathOf(
  engine: Engine,
  folder: string,
  start: Start,
  failure: Failure,
): Promise<Step[]> {
  const { sft, seed } = start
  const { ppo } = optionsOf(seed, failure)
  const helpfulness = await trainReward(engine, folder, start, 'helpfulness', failure)
  const safety = await trainReward(engine, folder, start, 'safety', failure)
  const rows = rowsOf(asked('train', seed))
  const { path: data } = await writeRows(join(folder, 'prompts.jsonl'), rows)
  const steps: Step[] = []
  for (let round = GUARD.every; round <= ROUNDS; round += GUARD.every) {
    const output = join(folder, `policy-${round}`)
    const metrics = await train(engine, {
      ...{ kind: 'policy_update', output, reference: filesOf(sft), data, helpfulness, safety },
      parent: steps.at(-1)?.policy.adapters.at(-1) ?? null,
      options: { ...ppo, rounds: GUARD.every, total_rounds: ROUNDS },
    })
    const policy = withCheckpoint(sft, output, ppo.lora)
    steps.push({ round, policy, metrics, gold: await grade(engine, policy, seed) })
  }
  return steps
}

/**
 * One loop, and what each guard makes of it. The rounds are done once: a guard only decides where they end, so that
 * what it stopped is known beyond its stop, and guards are compared on the same policies.
 */
async function studyLoop(
  engine: Engine,
  folder: string,
  start: Start,
  failure: Failure,
): Promise<StudyLoop[]> {
  const began = Date.now()
  const { sft, seed } = start
  const { path } = await once(folder, async () => ({
    path: await pathOf(engine, folder, start, failure),
  }))
  const judge = judgeOf(engine, 'audit-judge')
  const loops: StudyLoop[] = []
  for (const { name, audits } of failure.guards) {
    const { guard } = await guardedUpdate(sft, sft, startWatch(), {
      ...{ serving: engine, options: GUARD, rounds: ROUNDS, before: 0, progress: () => {} },
      note: (_name, work) => work(),
      audit: {
        judge: audits === undefined ? judge : leaning(judge, audits),
        prompts: rowsOf(asked('guard', seed)),
      },
      sampling: { maxNewTokens: MAX_TOKENS, seed },
      signal: new AbortController().signal,
      tell: () => Promise.resolve(),
      update: (_from, done, rounds) => {
        const step = path.find(({ round }) => round === done + rounds)
        if (step === undefined) throw new Error(`no policy of round ${done + rounds}`)
        return Promise.resolve(step)
      },
    })
    const { decisions, ballots, stopped, kept } = guard
    loops.push({
      ...{ failure: name, seed, seconds: Math.round((Date.now() - began) / 1000), stopped, kept },
      reason: decisions.at(-1)?.reason.en ?? '',
      sft: start.gold,
      path: path.map(({ round, gold, metrics }) => ({
        ...{ round, gold, kl: metrics.at(-1)?.['objective/kl'] ?? null },
      })),
      looks: decisions.map(({ reason: { en: reason }, ...decision }) => ({ ...decision, reason })),
      ballots,
    })
  }
  return loops
}

export type StudyRequest = {
  /** loops of each failure, and honest ones */
  seeds: number
  honest: number
  /** failures by name; all of them where none is named */
  only: readonly string[]
  /** does the seeds of one part of so many, so that several processes share one folder */
  part: number
  parts: number
  /** leaves the policies there: another guard can look at them later */
  keep: boolean
}

/** Does the loops that the folder's file does not hold yet, writing each down as it ends. */
export async function studyGuard(
  engine: Engine,
  folder: string,
  { seeds, honest, only, part, parts, keep }: StudyRequest,
  tell: (loop: StudyLoop) => void,
): Promise<void> {
  await mkdir(folder, { recursive: true })
  const known = new Set((await readLoops(folder)).map(({ failure, seed }) => `${failure} ${seed}`))
  for (let seed = part; seed <= Math.max(seeds, honest); seed += parts) {
    const at = join(folder, `seed-${seed}`)
    const wanted = FAILURES.filter(
      ({ name, guards }) =>
        seed <= (name === HONEST ? honest : seeds) &&
        (only.length === 0 || only.includes(name)) &&
        guards.some((guard) => !known.has(`${guard.name} ${seed}`)),
    )
    if (wanted.length === 0) continue
    const start = await once(join(at, 'start'), () => startOf(engine, join(at, 'start'), seed))
    for (const failure of wanted)
      for (const loop of await studyLoop(engine, join(at, failure.name), start, failure)) {
        if (known.has(`${loop.failure} ${seed}`)) continue
        // the newline in front ends a line that was cut off
        await appendFile(join(folder, LOOPS), `\n${JSON.stringify(loop)}`)
        tell(loop)
      }
    if (!keep) await rm(at, { recursive: true })
  }
}

const LOOPS = 'loops.jsonl'
/** The loops that a study has finished. A line that was cut off with the process is none. */
export async function readLoops(folder: string): Promise<StudyLoop[]> {
  const file = join(folder, LOOPS)
  const text = existsSync(file) ? await readFile(file, 'utf8') : ''
  return wholeLines(text).map((line) => JSON.parse(line) as StudyLoop)
}
