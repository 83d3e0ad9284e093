import { LibraError } from '../errors.ts'
import { packAt, packRows } from '../model/batch.ts'
import type { Pack } from '../model/batch.ts'
import type { Placed } from '../schemas/model.ts'
import { scalarHead, SCORE_HEAD } from '../model/heads.ts'
import { hiddenStates } from '../model/llama.ts'
import { isReadout, readoutScores } from '../model/readout.ts'
import type { Scored } from '../model/readout.ts'
import { hiddenStatesEach } from '../model/several.ts'
import { scoped } from '../tensor/backend.ts'
import { read } from '../tensor/ops.ts'
import { encodeChat, lastTokens } from '../text/template.ts'
import type { Batcher } from './batcher.ts'
import type { Engine, ModelFiles, ModelScores, ScoreAllRequest } from './engine.ts'
import type { Resident, Residents } from './residents.ts'

/** Tokens of one scoring pass, padding included. */
export const PASS_TOKENS = 8192

/** The token ids, or their end where they are too many for a model. Throws `context_length_exceeded`, with its place among others. */
export function fit(
  ids: number[],
  limit: number,
  onTooLong: 'error' | 'truncate',
  index?: number,
): { ids: number[]; truncated: boolean } {
  if (ids.length <= limit) return { ids, truncated: false }
  if (onTooLong === 'truncate') return { ids: ids.slice(ids.length - limit), truncated: true }
  throw new LibraError(
    'context_length_exceeded',
    `the conversation has ${ids.length} tokens, the model takes ${limit}; shorten it or ask for on_too_long: "truncate"`,
    { details: { tokens: ids.length, limit, ...(index === undefined ? {} : { index }) } },
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
  return ({ models, conversations, onTooLong, placed }: ScoreAllRequest, signal) =>
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
          const encoded = conversations.map((messages, i) => {
            const chat = encodeChat(tokenizer, messages, false)
            const { ids } = fit(chat.ids, model.config.context, onTooLong, i)
            const read = lastTokens(chat, Math.min(ids.length, window))
            const length = read.ids.length
            return { ...read, length, truncated: length < chat.ids.length }
          })
          const key = team.map(({ version }) => version).join()
          // what is to lie at a place goes through by itself
          const group =
            placed === undefined
              ? { key, run: (rows: readonly Scored[]) => rewards(team, rows) }
              : {
                  key: `${key} ${JSON.stringify(placed)}`,
                  run: (rows: readonly Scored[]) => [
                    pass(team, packAt(rows[0]?.ids ?? [], placed), rows)[0] ?? missing,
                  ],
                }
          const values = await batcher.submit<Reward, Scored & { length: number }>(
            ...([group, encoded, signal] as const),
          )
          team.forEach((scorer, at) =>
            scored.set(
              scorer,
              encoded.map(({ ids, truncated }, i) => ({
                ...{ logit: values[i]?.logits[at] ?? NaN, tokens: ids.length, truncated },
                placed: { ...(values[i] ?? missing).placed, model: at, models: team.length },
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

/** Models that stand on one base and read as much of a text in the same way. */
function teamsOf(scorers: readonly Resident[]): Team[] {
  const teams: Team[] = []
  for (const scorer of new Set(scorers)) {
    const team = teams.find(
      ([{ model, window }]) =>
        model.rope === scorer.model.rope &&
        model.config.layers === scorer.model.config.layers &&
        isReadout(model) === isReadout(scorer.model) &&
        window === scorer.window,
    )
    if (team === undefined) teams.push([scorer])
    else team.push(scorer)
  }
  return teams
}

type Reward = { logits: number[]; placed: Placed }
const missing: Reward = {
  logits: [],
  placed: { count: 0, segments: 0, at: 0, end: 0, prefix: 0, prefixAt: 0, trunk: -1 },
}

/** What each row is worth to each model of a team. */
function rewards(team: Team, rows: readonly Scored[]): Reward[] {
  const results = rows.map((): Reward => missing)
  const sequences = rows.map(({ ids }) => ids)
  for (const pack of packRows(sequences, PASS_TOKENS, { shared: true }))
    pass(team, pack, rows).forEach((reward, i) => (results[pack.rows[i] ?? -1] = reward))
  return results
}

const pass = (team: Team, pack: Pack, rows: readonly Scored[]): Reward[] =>
  scoped(() => {
    const readout = isReadout(team[0].model)
    const models = team.map(({ model }) => model)
    const hidden =
      team.length === 1
        ? [hiddenStates(team[0].model, pack, { last: !readout })]
        : hiddenStatesEach(models, pack, { last: !readout })
    // of all segments, whatever ends in them: the same product wherever a sequence lies
    const all = Int32Array.from(pack.lasts, (_, segment) => segment)
    const values = team.map(({ model }, at) => {
      const states = hidden[at]
      if (states === undefined) throw new Error('no hidden states of a model')
      if (readout) return readoutScores(model, states, pack, rows)
      const scores = read(scalarHead(model, SCORE_HEAD, states, all))
      return Array.from(pack.ends, (end) => scores[end] ?? NaN)
    })
    return pack.rows.map((_, i) => ({
      logits: values.map((value) => value[i] ?? NaN),
      placed: pack.place(i),
    }))
  })
