import { appendFile, mkdir } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { z } from 'zod'
import {
  BETA,
  COMBINERS,
  heldBack,
  METHODS,
  nanoWorld,
  optionsOf,
  rewardsBy,
  trainNano,
} from '../engine/nano.ts'
import type { NanoCombiner } from '../engine/nano.ts'
import {
  bestOf,
  expectedReward,
  frontRegret,
  objective,
  optimum,
  standingOf,
} from '../evaluation/frontier.ts'
import type { ByAnswer, Enumerated } from '../evaluation/frontier.ts'
import { readRows } from '../text/rows.ts'

/**
 * The exact frontier: every method with every combiner in a world whose answers are enumerated, held against the known
 * optimum of its own objective and against the front of helpfulness and safety at its own KL.
 */

const Row = z.object({
  method: z.string(),
  combiner: z.string(),
  seed: z.int().nullable().describe('null: nothing was drawn'),
  settings: z.string().describe('the options it was trained with, as JSON'),
  kl: z.number(),
  helpfulness: z.number(),
  safety: z.number(),
  reward: z.number(),
  unsafe: z.number().describe('share of answers that the gate holds back'),
  regret: z.number().describe('J* − J'),
  share: z.number().describe('of J* − J(π0)'),
  front: z.number().describe('least gap to the front at its own KL'),
  weight: z.number().describe('of helpfulness where the gap is least'),
})
export type FrontierRow = z.infer<typeof Row>
type Named = Pick<FrontierRow, 'method' | 'combiner' | 'seed' | 'settings'>

/** How a policy stands, by enumeration. */
function measured(
  named: Named,
  world: readonly Enumerated[],
  rewards: ByAnswer,
  policy: ByAnswer,
): FrontierRow {
  const standing = standingOf(world, policy)
  const best = optimum(world, rewards, BETA).objective
  const start = expectedReward(
    world.map(({ reference }) => reference),
    rewards,
  )
  const regret = best - objective(world, policy, rewards, BETA)
  const { regret: front, weight } = frontRegret(world, standing)
  return {
    ...{ ...named, ...standing, reward: expectedReward(policy, rewards) },
    unsafe: expectedReward(policy, heldBack(world)),
    ...{ regret, share: regret / (best - start), front, weight },
  }
}

/** What needs no training: the untrained policy, the optimum, and the best of n of the untrained policy's answers. */
function known(world: readonly Enumerated[], combiner: NanoCombiner): FrontierRow[] {
  const rewards = rewardsBy(world, optionsOf('ppo', combiner, 1))
  const policies: [string, ByAnswer][] = [
    ['optimum', optimum(world, rewards, BETA).policy],
    ['untrained', world.map(({ reference }) => reference)],
    ...[2, 4, 16].map((n): [string, ByAnswer] => [`best of ${n}`, bestOf(world, rewards, n)]),
  ]
  return policies.map(([method, policy]) =>
    measured({ method, combiner, seed: null, settings: '' }, world, rewards, policy),
  )
}

/** All rows of the study. Those that the file has already, trained with the same options, are not trained again. */
export async function frontierStudy(
  seeds: number,
  file: string,
  told: (done: number, of: number) => void,
): Promise<FrontierRow[]> {
  await mkdir(dirname(file), { recursive: true })
  const before = existsSync(file) ? await readRows(file, Row) : []
  const { policy, world, dispose } = nanoWorld()
  const rows: FrontierRow[] = COMBINERS.flatMap((combiner) => known(world, combiner))
  const of = seeds * METHODS.length * COMBINERS.length
  let done = 0
  try {
    for (let seed = 1; seed <= seeds; seed++)
      for (const method of METHODS)
        for (const combiner of COMBINERS) {
          const options = optionsOf(method, combiner, seed)
          const settings = JSON.stringify(options)
          const found = before.find((row) => row.settings === settings)
          const named = { method, combiner, seed, settings }
          const row =
            found ??
            measured(
              ...([named, world, rewardsBy(world, options)] as const),
              await trainNano(policy, world, options),
            )
          if (found === undefined) await appendFile(file, `${JSON.stringify(row)}\n`)
          rows.push(row)
          told(++done, of)
        }
  } finally {
    dispose()
  }
  return rows
}

/** The 0.975 quantiles of Student's t for 1, 2, … degrees of freedom. */
const STUDENT = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262]

type Spread = { value: number; half: number; n: number }
/** Mean over seeds with half its 95 % interval, t·s/√n; 0 where nothing was drawn. */
function spread(values: readonly number[]): Spread {
  const n = values.length
  const value = values.reduce((a, b) => a + b, 0) / n
  if (n < 2) return { value, half: 0, n }
  const deviation = Math.sqrt(values.reduce((a, x) => a + (x - value) ** 2, 0) / (n - 1))
  return { value, half: ((STUDENT[n - 2] ?? 2.262) * deviation) / Math.sqrt(n), n }
}

const FIGURES = [
  'kl',
  'helpfulness',
  'safety',
  'unsafe',
  'reward',
  'regret',
  'share',
  'front',
] as const
export type FrontierSummary = Record<(typeof FIGURES)[number], Spread> &
  Pick<FrontierRow, 'method' | 'combiner'>

/** One line for each method and combiner. */
export function summariseFrontier(rows: readonly FrontierRow[]): FrontierSummary[] {
  const groups = new Map<string, FrontierRow[]>()
  for (const row of rows) {
    const name = `${row.combiner} ${row.method}`
    groups.set(name, [...(groups.get(name) ?? []), row])
  }
  return [...groups.values()].flatMap((group) => {
    const [first] = group
    if (first === undefined) return []
    const of = (figure: (typeof FIGURES)[number]): Spread => spread(group.map((r) => r[figure]))
    return [
      {
        ...{ method: first.method, combiner: first.combiner, kl: of('kl'), reward: of('reward') },
        ...{ helpfulness: of('helpfulness'), safety: of('safety'), regret: of('regret') },
        ...{ share: of('share'), front: of('front'), unsafe: of('unsafe') },
      },
    ]
  })
}
