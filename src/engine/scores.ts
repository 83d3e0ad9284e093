import { LibraError } from '../errors.ts'
import { packRows } from '../model/batch.ts'
import { scalarHead } from '../model/heads.ts'
import { hiddenStates } from '../model/llama.ts'
import { hiddenStatesEach } from '../model/several.ts'
import { dispose, tf } from '../tensor/backend.ts'
import { read } from '../tensor/ops.ts'
import { encodeChat } from '../text/template.ts'
import { SCORE_HEAD } from '../training/reward-model.ts'
import type { Batcher } from './batcher.ts'
import type { Engine, ModelFiles, ModelScores, ScoreAllRequest } from './engine.ts'
import type { Resident, Residents } from './residents.ts'

/** Tokens of one scoring pass, padding included. */
export const PASS_TOKENS = 8192

/** The token ids, or their end where they are too many for a model. Throws `context_length_exceeded`. */
export function fit(
  ids: number[],
  limit: number,
  onTooLong: 'error' | 'truncate',
): { ids: number[]; truncated: boolean } {
  if (ids.length <= limit) return { ids, truncated: false }
  if (onTooLong === 'truncate') return { ids: ids.slice(ids.length - limit), truncated: true }
  throw new LibraError(
    'context_length_exceeded',
    `the conversation has ${ids.length} tokens, the model takes ${limit}; shorten it or ask for on_too_long: "truncate"`,
    { details: { tokens: ids.length, limit } },
  )
}

/** Scores by several models; those that read the same tokens on one base go through its passes together. */
export function createScoring(residents: Residents, batcher: Batcher): Engine['scoreAll'] {
  /** Lends all models at once; they load side by side. */
  async function lend<T>(
    files: readonly ModelFiles[],
    work: (scorers: Resident[]) => Promise<T>,
  ): Promise<T> {
    let over = (): void => {}
    const worked = new Promise<void>((resolve) => (over = resolve))
    const held: Promise<void>[] = []
    const lent = files.map(
      (model) =>
        new Promise<Resident>((resolve, reject) => {
          const use = residents.use(model, (resident) => (resolve(resident), worked))
          held.push(use.catch(reject))
        }),
    )
    try {
      return await work(await Promise.all(lent))
    } finally {
      over()
      await Promise.all(held)
    }
  }
  return ({ models, conversations, onTooLong }: ScoreAllRequest, signal) =>
    lend(models, async (scorers) => {
      if (scorers.some(({ model }) => !model.weights.has(SCORE_HEAD)))
        throw new LibraError(
          'no_score_head',
          'this model has no score head: it is not a reward model',
        )
      const scored = new Map<Resident, ModelScores['scores']>()
      await Promise.all(
        teamsOf(scorers).map(async (team) => {
          const { tokenizer, model, window } = team[0]
          const encoded = conversations.map((messages) => {
            const { ids } = encodeChat(tokenizer, messages, false)
            const { truncated, ...own } = fit(ids, model.config.context, onTooLong)
            const read = own.ids.slice(-window)
            return { ids: read, truncated: truncated || read.length < own.ids.length }
          })
          const key = team.map(({ version }) => version).join()
          const rows = encoded.map(({ ids }) => ids)
          const run = (ids: readonly (readonly number[])[]) => rewards(team, ids)
          const values = await batcher.submit({ key, run }, rows, signal)
          team.forEach((scorer, at) =>
            scored.set(
              scorer,
              encoded.map(({ ids, truncated }, i) => ({
                ...{ logit: values[i]?.[at] ?? NaN, tokens: ids.length, truncated },
              })),
            ),
          )
        }),
      )
      return scorers.map((scorer) => {
        const scores = scored.get(scorer) ?? []
        if (!scores.every(({ logit }) => Number.isFinite(logit)))
          throw new LibraError(
            'non_finite_output',
            'the reward model gave a score that is not finite',
            { fault: 'engine' },
          )
        return { version: scorer.version, calibration: scorer.calibration, scores }
      })
    })
}

type Team = [Resident, ...Resident[]]

/** Models that stand on one base and read as much of a text. */
function teamsOf(scorers: readonly Resident[]): Team[] {
  const teams: Team[] = []
  for (const scorer of new Set(scorers)) {
    const team = teams.find(
      ([{ model, window }]) => model.rope === scorer.model.rope && window === scorer.window,
    )
    if (team === undefined) teams.push([scorer])
    else team.push(scorer)
  }
  return teams
}

/** The scalar heads' values at the end of each row, one for each model of a team. */
function rewards(team: Team, rows: readonly (readonly number[])[]): number[][] {
  const values = rows.map((): number[] => [])
  for (const pass of packRows(rows, PASS_TOKENS, { shared: true }))
    tf.tidy(() => {
      const hidden =
        team.length === 1
          ? [hiddenStates(team[0].model, pass, { last: true })]
          : hiddenStatesEach(
              team.map(({ model }) => model),
              pass,
            )
      team.forEach(({ model }, at) => {
        const states = hidden[at]
        if (states === undefined) return
        const head = scalarHead(model, SCORE_HEAD, states, pass.ends)
        read(head).forEach((logit, i) => values[pass.rows[i] ?? -1]?.splice(at, 1, logit))
        dispose(head)
      })
    })
  return values
}
