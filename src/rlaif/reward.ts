import { cp } from 'node:fs/promises'
import { fitPlatt, fitTemperature, sigmoid } from '../evaluation/calibration.ts'
import { chooseGate, gateWithIntervals, reliabilityOf } from '../evaluation/reliability.ts'
import type { Forecast } from '../evaluation/reliability.ts'
import { clusteredShare } from '../evaluation/shares.ts'
import { grouped } from '../evaluation/statistics.ts'
import { permutation, uniform } from '../random.ts'
import type { Engine, ModelFiles } from '../engine/engine.ts'
import type { Axis, PreferenceRow } from '../schemas/feedback.ts'
import type { Message } from '../schemas/chat.ts'
import type { Calibration, CalibrationQuality } from '../schemas/model.ts'
import { conversationKey } from '../text/conversation.ts'
import { commitFolder } from '../weights/atomic.ts'
import { readCard, writeCard } from '../weights/folder.ts'

/** The share of pairs that calibration alone uses. */
const CALIBRATION_SHARE = 0.2
const REFERENCES = 32
/** Llama 2's threshold, and the precision that it was chosen for (Touvron et al. 2023, section 3.2.3). */
const DEFAULT_GATE = 0.15
const GATE_PRECISION = 0.89

/** Fewer conversations than this can't be cut so that either side is worth something. */
const LEAST_CONVERSATIONS = 5

/**
 * Cuts the pairs in two: what a reward model trains on, and what calibrates it, whole conversations that nothing else
 * uses. Where there are fewer than five of them it cuts between pairs, and `shared` says so: what is held then knows the
 * prompts, and figures from it flatter the model.
 */
export function splitForCalibration(
  pairs: readonly PreferenceRow[],
  seed: number,
): { training: PreferenceRow[]; held: PreferenceRow[]; shared: boolean } {
  const conversations = grouped(pairs, conversationKey)
  const shared = conversations.length < LEAST_CONVERSATIONS
  const groups = shared ? pairs.map((pair) => [pair]) : conversations
  const cut = Math.floor(groups.length * (1 - CALIBRATION_SHARE))
  const order = Array.from(permutation(groups.length, seed, 41))
  const pick = (indices: readonly number[]): PreferenceRow[] =>
    indices.flatMap((i) => groups[i] ?? [])
  return { training: pick(order.slice(0, cut)), held: pick(order.slice(cut)), shared }
}

export type Calibrated = { calibration: Calibration; accuracy: number }
type Conversation = readonly Message[]
/** What calibrates a model and what names it. */
export type CalibrationInput = {
  axis: Axis
  held: readonly PreferenceRow[]
  dataHash: string
  seed: number
  /** the answers that the version before was held against; null: some of these pairs' */
  references: readonly Conversation[] | null
}

/** Writes `output`: the raw reward model with a calibration on held-out pairs in its card. */
export async function calibrateReward(
  engine: Engine,
  model: ModelFiles,
  output: string,
  input: CalibrationInput,
): Promise<Calibrated> {
  const { axis, held } = input
  const raw = model.adapters.at(-1) ?? model.base
  const score = async (conversations: readonly Conversation[]): Promise<number[]> =>
    (await engine.score({ model, conversations, onTooLong: 'truncate' })).map(({ logit }) => logit)
  const answered = (answer: 'chosen' | 'rejected'): Conversation[] =>
    held.map((row) => [...row.prompt, { role: 'assistant', content: row[answer] }])
  const [good, bad] = [answered('chosen'), answered('rejected')]
  const [chosen, rejected] = [await score(good), await score(bad)]
  const version = `${axis}-${input.dataHash.slice(0, 12)}`
  let calibration: Calibration
  if (axis === 'safety') calibration = calibrateSafety(version, input, chosen, rejected)
  else {
    // one of each pair in turn, so that they are neither the best nor the worst
    const own = good.slice(0, REFERENCES).map((c, i) => (i % 2 === 0 ? c : (bad[i] ?? c)))
    const references = (input.references ?? own).map((conversation) => [...conversation])
    const anchors = await score(references)
    calibration = { ...calibrateHelpfulness(version, input, chosen, rejected), anchors, references }
  }
  await commitFolder(output, async (folder) => {
    await cp(raw, folder, { recursive: true })
    const card = (await readCard(raw)) ?? { format: 1 as const, kind: 'adapter' as const }
    await writeCard(folder, { ...card, calibration })
  })
  const right = chosen.filter((r, i) => r > (rejected[i] ?? 0)).length
  return { calibration, accuracy: right / Math.max(1, held.length) }
}

/**
 * Forecasts of rows by calibrations that were fitted on the rows of other conversations: five parts, each forecast by
 * the other four. None where all rows are of one conversation.
 */
function crossFitted<T extends { cluster: string }>(
  rows: readonly T[],
  fit: (rows: readonly T[]) => (row: T) => number,
): (T & { p: number })[] {
  const parts = new Map([...new Set(rows.map(({ cluster }) => cluster))].map((c, i) => [c, i % 5]))
  const partOf = (row: T): number => parts.get(row.cluster) ?? 0
  return [0, 1, 2, 3, 4].flatMap((part) => {
    const others = rows.filter((row) => partOf(row) !== part)
    if (others.length === 0) return []
    const predict = fit(others)
    return rows.filter((row) => partOf(row) === part).map((row) => ({ ...row, p: predict(row) }))
  })
}

/** Platt scaling on the absolute labels. */
function calibrateSafety(
  version: string,
  { held, seed }: CalibrationInput,
  chosen: readonly number[],
  rejected: readonly number[],
): Extract<Calibration, { kind: 'platt' }> {
  type Labelled = { logit: number; outcome: boolean; cluster: string }
  const labelled = (row: PreferenceRow, logit: number, safe: boolean | null | undefined) =>
    safe == null ? [] : [{ logit, outcome: safe, cluster: conversationKey(row) }]
  const absolute = held.flatMap((row, i): Labelled[] => [
    ...labelled(row, chosen[i] ?? 0, row.chosen_safe),
    ...labelled(row, rejected[i] ?? 0, row.rejected_safe),
  ])
  // without absolute labels the sides of the pairs stand in for them: a weaker statement, see docs/metrics.md
  const sides = held.flatMap((row, i): Labelled[] => [
    ...labelled(row, chosen[i] ?? 0, true),
    ...labelled(row, rejected[i] ?? 0, false),
  ])
  const rows = absolute.length > 0 ? absolute : sides
  const platt = (list: readonly Labelled[]): { a: number; b: number } =>
    fitPlatt(
      list.map(({ logit }) => logit),
      list.map(({ outcome }) => outcome),
    )
  const forecasts = crossFitted(rows, (list) => {
    const { a, b } = platt(list)
    return ({ logit }) => sigmoid(a * logit + b)
  })
  const quality = qualityOf(forecasts, seed)
  const known = quality !== undefined && rows.some(({ outcome }) => !outcome)
  const best = chooseGate(forecasts, GATE_PRECISION)
  const gate = known && {
    prevalence: clusteredShare(
      rows.map(({ outcome }) => (outcome ? 0 : 1)),
      rows.map(({ cluster }) => cluster),
      seed,
    ),
    default: gateWithIntervals(forecasts, DEFAULT_GATE, seed),
    wanted_precision: GATE_PRECISION,
    chosen: best === null ? null : gateWithIntervals(forecasts, best.threshold, seed),
  }
  return {
    ...{ kind: 'platt', version, ...platt(rows), n: rows.length },
    ...(gate === false ? {} : { quality: { ...quality, gate } }),
  }
}

/** The temperature of differences, and how far the probabilities of pairs can be believed. */
function calibrateHelpfulness(
  version: string,
  { held, seed }: CalibrationInput,
  chosen: readonly number[],
  rejected: readonly number[],
): Omit<Extract<Calibration, { kind: 'win_rate' }>, 'anchors'> {
  const rows = held.map((row, i) => {
    // turned around at random, else every forecast would be of a win
    const turned = uniform(seed, 43, i) < 0.5
    const difference = (chosen[i] ?? 0) - (rejected[i] ?? 0)
    const wins = row.probability ?? 1
    return {
      difference: turned ? -difference : difference,
      wins: turned ? 1 - wins : wins,
      outcome: turned ? wins < 0.5 : wins >= 0.5,
      cluster: conversationKey(row),
    }
  })
  const temperature = (list: typeof rows): number =>
    fitTemperature(
      list.map(({ difference }) => difference),
      list.map(({ wins }) => wins),
    )
  const forecasts = crossFitted(rows, (list) => {
    const t = temperature([...list])
    return ({ difference }) => sigmoid(difference / t)
  })
  const quality = qualityOf(forecasts, seed)
  return {
    ...{ kind: 'win_rate', version, temperature: temperature(rows), n: held.length },
    ...(quality === undefined ? {} : { quality }),
  }
}

/** Undefined where there is too little to say anything. */
function qualityOf(forecasts: readonly Forecast[], seed: number): CalibrationQuality | undefined {
  const quality = reliabilityOf(forecasts, seed)
  const { calibration_error, slope, intercept, skill } = quality
  const all = [calibration_error, slope, intercept, skill]
  const known = all.every((x) => [x.value, x.low, x.high].every(Number.isFinite))
  return known ? quality : undefined
}
