import { addFigures, figureMetrics, labelPrompts } from '../rlaif/label.ts'
import { jointUsage, usagesOf } from '../judging/panel.ts'
import { noUsage, usageMetrics, usageSum } from '../judging/respondent.ts'
import type { Usage } from '../judging/respondent.ts'
import { PromptRow } from '../schemas/feedback.ts'
import type { RunRequest } from '../schemas/run.ts'
import type { Run } from '../store/store.ts'
import { requireAudits } from './audit.ts'
import { filesOf, findPolicy } from './catalog.ts'
import { openData } from './data.ts'
import { openJudge } from './judges.ts'
import { labelProgress, PART } from './label-progress.ts'
import { judgeNow, modelNow } from './measured-by.ts'
import { storePairs } from './preferences.ts'
import type { Services } from './services.ts'
import type { Plan } from './start.ts'

/**
 * Bulk AI labelling: two answers to each prompt, compared on each axis, stored as preference pairs. `before`: a run that
 * has ended and goes on behind its last whole part, with what is left of its budget; asked anew is then only what it has
 * not asked itself.
 */
export async function planLabel(
  services: Services,
  request: Extract<RunRequest, { kind: 'label' }>,
  before?: Run,
): Promise<Plan> {
  const { store, serving } = services
  const writer = await findPolicy(store, request.model, 'model')
  const model = filesOf(writer)
  const { options } = request
  const so = labelProgress(before === undefined ? [] : await store.events(before.id, 0))
  const judge = await openJudge(services, request.judge, {
    ...{ ...options, used: so.used, since: before?.startedAt ?? undefined },
  })
  await requireAudits(services, judge, options.axes, request.override)
  const prompts = await openData(services, request.training_file, PromptRow)
  const { axes, seed, temperature, max_new_tokens: maxNewTokens } = options
  /** of each judge, with what it had used before */
  const used = (): Usage[] =>
    usagesOf(judge).map((usage, i) => usageSum(usage, so.used[i] ?? { ...noUsage(), cost: 0 }))
  const usedInAll = (): Usage => jointUsage(used())
  return {
    request: { ...request, model: writer.id },
    measuredBy: {
      model: await modelNow(services, writer),
      judge: await judgeNow(services, judge),
    },
    seed,
    dataHash: prompts.hash,
    parentCheckpoint: model.adapters.at(-1) ?? model.base,
    async work({ id, emit, rewind, signal }) {
      let { prompts: done, figures: total } = so
      const step = (): number => Math.ceil(done / PART)
      const tell = (at: number): Promise<void> =>
        emit({
          ...{ type: 'metrics', step: at, used: used() },
          metrics: { prompts: done, ...figureMetrics(total), ...usageMetrics(usedInAll()) },
        })
      const from = { step: step(), prompts: done, of: prompts.rows.length, used: so.used }
      if (so.begun) await rewind(so.seq, { type: 'resumed', ...from })
      else await emit({ type: 'started', ...from })
      // part by part: what a judge was paid for is kept, whatever happens next
      try {
        while (done < prompts.rows.length) {
          const part = prompts.rows.slice(done, done + PART)
          const sampling = { maxNewTokens, temperature, seed: (seed + done) % 2 ** 31 }
          const { pairs, figures } = await labelPrompts(
            ...([serving, judge, model, part, axes, sampling, () => {}, signal, options] as const),
          )
          await storePairs(services, Object.values(pairs).flat(), id)
          total = addFigures(total, figures)
          done += part.length
          await tell(step())
        }
      } catch (error) {
        await tell(step() + 1) // what the part that was not finished has cost stands in no summary
        throw error
      }
      return { ...total, usage: usedInAll() }
    },
  }
}
