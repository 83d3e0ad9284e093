import { orderedVerdict } from './judge.ts'
import type { GivenVerdict, Judge, SafetyVerdict, ScoreVerdict, Verdict } from './judge.ts'
import { failed, noUsage } from './respondent.ts'
import type { Failed, Watch } from './respondent.ts'

type Given<T> = Extract<T, { ok: true }>
const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length
const deviation = (values: readonly number[]): number =>
  Math.sqrt(mean(values.map((value) => (value - mean(values)) ** 2)))

/**
 * Several judges as one: what it says is the mean of what they say, with the standard deviation beside it. It says
 * nothing where half of them or more failed.
 */
export function createPanel(name: string, judges: readonly Judge[]): Judge {
  /** What all say of each item, asked at the same time; as far as the slowest is. */
  async function all<T>(
    ask: (judge: Judge, watch: Watch) => Promise<T[]>,
    { onProgress, signal }: Watch = {},
  ): Promise<T[][]> {
    const done = judges.map(() => 0)
    const said = await Promise.all(
      judges.map((judge, j) =>
        ask(judge, {
          signal,
          onProgress(n) {
            done[j] = n
            onProgress?.(Math.min(...done))
          },
        }),
      ),
    )
    return (said[0] ?? []).map((_, i) => said.flatMap((own) => own[i] ?? []))
  }

  return {
    name,
    promptVersion: judges.map(({ promptVersion }) => promptVersion).join(' + '),
    version: async () => (await Promise.all(judges.map((judge) => judge.version()))).join(' + '),
    usage: () =>
      judges.reduce((sum, judge) => {
        const own = judge.usage()
        const cost = own.cost === null ? sum.cost : (sum.cost ?? 0) + own.cost
        return {
          requests: sum.requests + own.requests,
          cached: sum.cached + own.cached,
          prompt_tokens: sum.prompt_tokens + own.prompt_tokens,
          completion_tokens: sum.completion_tokens + own.completion_tokens,
          cost,
        }
      }, noUsage()),
    async compare(comparisons, watch) {
      const said = await all((judge, own) => judge.compare(comparisons, own), watch)
      return said.map((verdicts) => joint(verdicts, judges))
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

function joint(verdicts: readonly Verdict[], judges: readonly Judge[]): Verdict {
  const given = majority(verdicts)
  if (!Array.isArray(given)) return given
  const order = (place: 0 | 1): number | null => {
    const asked = given.flatMap(({ orders }) => orders[place] ?? [])
    return asked.length === 0 ? null : mean(asked)
  }
  const probabilities = given.map(({ probability }: GivenVerdict) => probability)
  return {
    ...orderedVerdict([order(0), order(1)]),
    probability: mean(probabilities), // as each judge clamps its own
    soft: given.every(({ soft }) => soft),
    cached: given.every(({ cached }) => cached),
    ...(given[0]?.principle === undefined ? {} : { principle: given[0].principle }),
    disagreement: deviation(probabilities),
    panel: verdicts.map((verdict, j) => ({
      judge: judges[j]?.name ?? '',
      probability: verdict.ok ? verdict.probability : null,
      failure: verdict.ok ? null : verdict.failure,
    })),
  }
}
