import { availableParallelism, cpus } from 'node:os'
import { parseArgs } from 'node:util'
import {
  bestOf,
  frontAt,
  frontRegret,
  klOf,
  objective,
  expectation,
  optimum,
  pointOf,
} from './exact.ts'
import type { ExactWorld, Table } from './exact.ts'
import { distributions, newTrainee, train, ROUNDS } from './train.ts'
import type { Method } from './train.ts'
import { helpfulness, rewardOf, safety, table } from './world.ts'
import type { NanoCombiner } from './world.ts'

/**
 * The exact frontier: every method with every combiner in a world whose answers can all be listed, beside the best
 * policy that there is. `npm run study:frontier [-- --seeds 5]`
 */
const { values } = parseArgs({ options: { seeds: { type: 'string', default: '5' } } })
const SEEDS = Number(values.seeds)
const BETA = 0.1
const METHODS: Method[] = ['ppo', 'rloo', 'dpo', 'rejection_sampling']
const COMBINERS: NanoCombiner[] = ['gate', 'lagrangian', 'weighted']
const BEST_OF = 16

type Figures = {
  helpfulness: number
  safety: number
  unsafe: number
  kl: number
  /** J* − J, and as a share of J* − J(π0) */
  regret: number
  share: number
  /** to the front at its own KL */
  front: number
}

function figuresOf(world: ExactWorld, policy: Table, reward: Table): Figures {
  const { reference } = world
  const best = optimum(reference, reward, BETA).value
  const regret = best - objective(policy, reference, reward, BETA)
  const point = pointOf(world, policy)
  return {
    ...point,
    unsafe: expectation(
      policy,
      world.safety.map((row) => row.map((s) => Number(s < 0))),
    ),
    regret,
    share: regret / (best - objective(reference, reference, reward, BETA)),
    front: frontRegret(frontAt(world, point.kl), point),
  }
}

const rows = new Map<string, Figures[]>()
const add = (name: string, figures: Figures): void => {
  rows.set(name, [...(rows.get(name) ?? []), figures])
}
const [h, s] = [table(helpfulness), table(safety)]
let checked = { apart: 1, most: 0 }
const started = Date.now()
const total = SEEDS * METHODS.length * COMBINERS.length
let done = 0
for (let seed = 1; seed <= SEEDS; seed++)
  for (const combiner of COMBINERS) {
    const reward = h.map((row, x) =>
      row.map((value, y) => rewardOf(combiner, value, s[x]?.[y] ?? 0)),
    )
    for (const method of METHODS) {
      const trainee = newTrainee(seed, method === 'ppo')
      const { reference } = distributions(trainee)
      const world = { reference, helpfulness: h, safety: s }
      if (method === METHODS[0]) {
        const best = optimum(reference, reward, BETA).policy
        const apart =
          best
            .flatMap((row, x) => row.map((p, y) => Math.abs(p - (reference[x]?.[y] ?? 0))))
            .reduce((a, b) => a + b, 0) /
          (2 * best.length)
        const most = best.reduce((sum, row) => sum + Math.max(...row), 0) / best.length
        checked = { apart: Math.min(checked.apart, apart), most: Math.max(checked.most, most) }
        add(`the optimum | ${combiner}`, figuresOf(world, best, reward))
        add(
          `best of ${BEST_OF} | ${combiner}`,
          figuresOf(world, bestOf(reference, reward, BEST_OF), reward),
        )
        if (combiner === COMBINERS[0]) add('π0 | –', figuresOf(world, reference, reward))
      }
      await train(
        trainee,
        method,
        (x, answer) => rewardOf(combiner, helpfulness(x, answer), safety(x, answer)),
        {
          ...{ beta: BETA, seed },
        },
      )
      const { policy } = distributions(trainee)
      const sum = policy.map((row) => row.reduce((a, b) => a + b, 0))
      if (sum.some((x) => Math.abs(x - 1) > 1e-3))
        throw new Error(`probabilities sum to ${sum.join()}`)
      if (klOf(policy, reference) < 0) throw new Error('a KL below 0')
      add(`${method} | ${combiner}`, figuresOf(world, policy, reward))
      trainee.dispose()
      done++
      const rate = done / ((Date.now() - started) / 1000)
      console.error(
        `${done}/${total} ${method} ${combiner} seed ${seed} · ${((total - done) / rate).toFixed(0)} s left`,
      )
    }
  }

const COLUMNS: [keyof Figures, string][] = [
  ['helpfulness', 'helpful'],
  ['safety', 'safe'],
  ['unsafe', 'unsafe answers'],
  ['kl', 'KL'],
  ['regret', 'regret J* − J'],
  ['share', 'of J* − J(π0)'],
  ['front', 'behind the front'],
]
/** The mean over seeds ± its standard error. */
const shown = (list: readonly number[]): string => {
  const mean = list.reduce((a, b) => a + b, 0) / list.length
  const variance = list.reduce((a, b) => a + (b - mean) ** 2, 0) / Math.max(1, list.length - 1)
  return `${mean.toFixed(3)} ± ${Math.sqrt(variance / list.length).toFixed(3)}`
}
console.log(
  `${cpus()[0]?.model}, ${availableParallelism()} cores; ${SEEDS} seeds, ${ROUNDS} rounds, β = ${BETA}; ${((Date.now() - started) / 1000).toFixed(0)} s. TV(π0, π*) ≥ ${checked.apart.toFixed(2)}, mean of max π* ≤ ${checked.most.toFixed(2)}.\n`,
)
console.log(`| method | combiner | ${COLUMNS.map(([, name]) => name).join(' | ')} |`)
console.log(`| --- | --- |${' ---: |'.repeat(COLUMNS.length)}`)
const order = ['π0', 'the optimum', `best of ${BEST_OF}`, ...METHODS]
for (const name of [...rows.keys()].sort(
  (a, b) => order.indexOf(a.split(' | ')[0] ?? '') - order.indexOf(b.split(' | ')[0] ?? ''),
)) {
  const of = rows.get(name) ?? []
  console.log(`| ${name} | ${COLUMNS.map(([key]) => shown(of.map((f) => f[key]))).join(' | ')} |`)
}
