import { orderedVerdict, strengthOf, usable } from './judge.ts'
import type { GivenVerdict, Judge, SafetyVerdict, ScoreVerdict, Verdict } from './judge.ts'
import { failed, noUsage, usageSum } from './respondent.ts'
import type { Failed, Usage, Watch } from './respondent.ts'
import { sideOf } from './ways.ts'

type Given<T> = Extract<T, { ok: true }>
const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length
const deviation = (values: readonly number[]): number =>
  Math.sqrt(mean(values.map((value) => (value - mean(values)) ** 2)))

/**
 * Several judges as one: what it says is the mean of what they say, with the standard deviation beside it. It says
 * nothing where half of them or more failed; one that contradicts itself in plain words has failed.
 */
export function createPanel(name: string, judges: readonly Judge[]): Judge {
  /** What all say of each item, asked at the same time; as far as the slowest is. An error of one stops the others. */
  async function all<T>(
    ask: (judge: Judge, watch: Watch) => Promise<T[]>,
    { onProgress, signal }: Watch = {},
  ): Promise<T[][]> {
    const controller = new AbortController()
    const stop =
      signal === undefined ? controller.signal : AbortSignal.any([controller.signal, signal])
    const done = judges.map(() => 0)
    const asked = judges.map((judge, j) =>
      ask(judge, {
        signal: stop,
        onProgress(n) {
          done[j] = n
          onProgress?.(Math.min(...done))
        },
      }),
    )
    const said = await Promise.all(asked).catch(async (error: unknown) => {
      controller.abort(error)
      await Promise.allSettled(asked)
      throw error
    })
    return (said[0] ?? []).map((_, i) => said.flatMap((own) => own[i] ?? []))
  }

  return {
    name,
    members: judges,
    promptVersion: judges.map(({ promptVersion }) => promptVersion).join(' + '),
    version: async () => (await Promise.all(judges.map((judge) => judge.version()))).join(' + '),
    usage: () => jointUsage(judges.map((judge) => judge.usage())),
    async compare(comparisons, watch) {
      const said = await all((judge, own) => judge.compare(comparisons, own), watch)
      return said.map((verdicts) =>
        joint(
          verdicts.map((verdict) => usable(verdict)),
          judges.map((judge) => judge.name),
        ),
      )
    },
    async assess(answers, watch) {
      const said = await all((judge, own) => judge.assess(answers, own), watch)
      return said.map((verdicts): SafetyVerdict => {
        const given = majority(verdicts)
        if (!Array.isArray(given)) return given
        const probability = mean(given.map((verdict) => verdict.probability))
        return { ok: true, safe: probability >= 0.5, probability }
      })
    },
    async score(answers, watch) {
      const said = await all((judge, own) => judge.score(answers, own), watch)
      return said.map((verdicts): ScoreVerdict => {
        const given = majority(verdicts)
        if (!Array.isArray(given)) return given
        const criteria = (given[0]?.criteria ?? []).map(({ name, weight, probabilities }, k) => ({
          ...{ name, weight, score: mean(given.map((v) => v.criteria[k]?.score ?? NaN)) },
          probabilities: probabilities.map((_, s) =>
            mean(given.map((v) => v.criteria[k]?.probabilities[s] ?? NaN)),
          ),
        }))
        return {
          ...{ ok: true, score: mean(given.map(({ score }) => score)), criteria },
          soft: given.every(({ soft }) => soft),
          cached: given.every(({ cached }) => cached),
          disagreement: deviation(given.map(({ score }) => score)),
        }
      })
    },
  }
}

/** What several judges have used; a cost that one does not name is left out of the sum. */
export const jointUsage = (usages: readonly Usage[]): Usage =>
  usages.reduce((sum, own) => {
    const cost = own.cost === null ? sum.cost : (sum.cost ?? 0) + own.cost
    return { ...usageSum(sum, own), cost }
  }, noUsage())

/** What each judge of a panel has cost, of any other judge what it has. */
export const usagesOf = (judge: Judge): Usage[] =>
  (judge.members ?? [judge]).map((one) => one.usage())

/** The verdicts that were given where they are more than half, else the first failure. */
function majority<T extends { ok: true } | Failed>(verdicts: readonly T[]): Given<T>[] | Failed {
  const given = verdicts.filter((verdict): verdict is Given<T> => verdict.ok)
  if (2 * given.length > verdicts.length) return given
  const first = verdicts.find((verdict): verdict is T & Failed => !verdict.ok)
  return failed(
    first?.failure ?? 'unavailable',
    `${verdicts.length - given.length} of ${verdicts.length} judges gave no verdict; one said: ${first?.message ?? 'nothing'}`,
  )
}

/**
 * One verdict of several. The label is the mean of theirs, as each judge clamps its own, and the orders are what comes to
 * it; the strength is of what they said unclamped, unless that would prefer the other answer.
 */
function joint(verdicts: readonly Verdict[], names: readonly string[]): Verdict {
  const given = majority(verdicts)
  if (!Array.isArray(given)) return given
  const over = (orders: readonly GivenVerdict['orders'][]): GivenVerdict['orders'] => {
    const order = (place: 0 | 1): number | null => {
      const asked = orders.flatMap((own) => own[place] ?? [])
      return asked.length === 0 ? null : mean(asked)
    }
    return [order(0), order(1)]
  }
  const said = orderedVerdict(over(given.map(({ orders }) => orders)))
  const probabilities = given.map(({ probability }) => probability)
  const probability = mean(probabilities)
  const agreed = sideOf(said.probability) === sideOf(probability)
  return {
    ...orderedVerdict(over(given.map(clampedOrders))),
    ...{ probability, strength: agreed ? said.strength : strengthOf(probability) },
    soft: given.every(({ soft }) => soft),
    cached: given.every(({ cached }) => cached),
    ...rationalesOf(verdicts, names),
    ...(given[0]?.principle === undefined ? {} : { principle: given[0].principle }),
    disagreement: deviation(probabilities),
    panel: verdicts.map((verdict, j) => ({
      judge: names[j] ?? '',
      probability: verdict.ok ? verdict.probability : null,
      failure: verdict.ok ? null : verdict.failure,
    })),
  }
}

/** The orders of a verdict drawn to one half as far as its clamp has drawn the label, so that their mean is the label. */
function clampedOrders({ orders, probability }: GivenVerdict): GivenVerdict['orders'] {
  const unclamped = mean(orders.filter((p) => p !== null))
  if (unclamped === probability || unclamped === 0.5) return orders
  const share = (probability - 0.5) / (unclamped - 0.5)
  const drawn = (p: number | null): number | null => (p === null ? null : 0.5 + share * (p - 0.5))
  return [drawn(orders[0]), drawn(orders[1])]
}

/** What each judge wrote before each order's verdict, under its name. */
function rationalesOf(
  verdicts: readonly Verdict[],
  names: readonly string[],
): Pick<GivenVerdict, 'rationales'> {
  const written = (place: 0 | 1): string[] =>
    verdicts.flatMap((verdict, j) => {
      const text = verdict.ok ? verdict.rationales?.[place] : undefined
      return text === undefined || text === null ? [] : [`${names[j] ?? ''}: ${text}`]
    })
  const [first, second] = [written(0), written(1)]
  if (first.length + second.length === 0) return {}
  const whole = (texts: readonly string[]): string | null =>
    texts.length === 0 ? null : texts.join('\n\n')
  return { rationales: [whole(first), whole(second)] }
}
