import { addFigures, figureMetrics, labelPrompts, noFigures } from '../rlaif/label.ts'
import { usageMetrics } from '../judging/respondent.ts'
import { PromptRow } from '../schemas/feedback.ts'
import type { RunRequest } from '../schemas/run.ts'
import { requireAudits } from './audit.ts'
import { filesOf, findPolicy } from './catalog.ts'
import { openData } from './data.ts'
import { openJudge } from './judges.ts'
import { storePairs } from './preferences.ts'
import type { Services } from './services.ts'
import type { Plan } from './start.ts'

const PART = 100

/** Bulk AI labelling: two answers to each prompt, compared on each axis, stored as preference pairs. */
export async function planLabel(
  services: Services,
  request: Extract<RunRequest, { kind: 'label' }>,
): Promise<Plan> {
  const { store, serving } = services
  const model = filesOf(await findPolicy(store, request.model, 'model'))
  const { options } = request
  const judge = await openJudge(services, request.judge, options)
  await requireAudits(services, judge, options.axes, request.override)
  const prompts = await openData(services, request.training_file, PromptRow)
  const { axes, seed, temperature, max_new_tokens: maxNewTokens } = options
  return {
    seed,
    dataHash: prompts.hash,
    parentCheckpoint: model.adapters.at(-1) ?? model.base,
    async work({ id, emit, signal }) {
      let total = noFigures()
      let step = 0
      const tell = (): Promise<void> =>
        emit({
          ...{ type: 'metrics', step },
          metrics: { ...figureMetrics(total), ...usageMetrics(judge.usage()) },
        })
      // part by part: what a judge was paid for is kept, whatever happens next
      try {
        for (let i = 0; i < prompts.rows.length; i += PART) {
          step++
          const part = prompts.rows.slice(i, i + PART)
          const sampling = { maxNewTokens, temperature, seed: (seed + i) % 2 ** 31 }
          const { pairs, figures } = await labelPrompts(
            ...([serving, judge, model, part, axes, sampling, () => {}, signal, options] as const),
          )
          await storePairs(services, Object.values(pairs).flat(), id)
          total = addFigures(total, figures)
          await tell()
        }
      } catch (error) {
        await tell() // what the part that was not finished has cost stands in no summary
        throw error
      }
      return { ...total, usage: judge.usage() }
    },
  }
}
