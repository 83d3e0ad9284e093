import { createHash } from 'node:crypto'
import { cp } from 'node:fs/promises'
import { fitPlatt, fitTemperature, sigmoid } from '../evaluation/calibration.ts'
import { isDecided, isTie, labelOf } from '../evaluation/pair-labels.ts'
import { won } from '../evaluation/baselines.ts'
import { chooseGate, gateWithIntervals, reliabilityOf } from '../evaluation/reliability.ts'
import type { Forecast } from '../evaluation/reliability.ts'
import { clusteredShare } from '../evaluation/shares.ts'
import { grouped } from '../evaluation/statistics.ts'
import type { Interval } from '../evaluation/statistics.ts'
import { permutation, uniform } from '../random.ts'
import type { Engine, ModelFiles } from '../engine/engine.ts'
import { rightWayRound } from '../schemas/feedback.ts'
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

/** Absolute labels: fewer say nothing, as fewer answers to a probe or verdicts on staleness. */
const FEWEST_LABELS = 20

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

/** Pairs of other conversations than some are of: what a yardstick is made of must not be learned by heart. */
export function awayFrom(
  rows: readonly PreferenceRow[],
  conversations: readonly (readonly Message[])[],
): PreferenceRow[] {
  const known = new Set(conversations.map((prompt) => conversationKey({ prompt })))
  return rows.filter((row) => !known.has(conversationKey(row)))
}

export type Calibrated = {
  calibration: Calibration
  /** share of held-out pairs in which the better answer has the higher logit, equal ones ½; labels of ½ are left out */
  accuracy: number
  /** how many pairs that is of */
  compared: number
  /** the same share of pairs whose label is decided, with its interval */
  decided: Interval
  /** what is to be said of the calibration */
  warnings: string[]
}
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
  const { axis, seed } = input
  const held = input.held.map(rightWayRound)
  const raw = model.adapters.at(-1) ?? model.base
  const score = async (conversations: readonly Conversation[]): Promise<number[]> =>
    (await engine.score({ model, conversations, onTooLong: 'truncate' })).map(({ logit }) => logit)
  const answered = (answer: 'chosen' | 'rejected'): Conversation[] =>
    held.map((row) => [...row.prompt, { role: 'assistant', content: row[answer] }])
  const [good, bad] = [answered('chosen'), answered('rejected')]
  const [chosen, rejected] = [await score(good), await score(bad)]
  let fitted: Unnamed
  const warnings: string[] = []
  if (axis === 'safety') fitted = calibrateSafety(held, seed, { chosen, rejected }, warnings)
  else {
    // one of each pair in turn, so that they are neither the best nor the worst
    const own = good.slice(0, REFERENCES).map((c, i) => (i % 2 === 0 ? c : (bad[i] ?? c)))
    const references = (input.references ?? own).map((conversation) => [...conversation])
    const anchors = await score(references)
    fitted = { ...calibrateHelpfulness(held, seed, { chosen, rejected }), anchors, references }
  }
  const { version } = await engine.describe(model)
  const calibration = named(fitted, axis, [version, input.dataHash])
  await commitFolder(output, async (folder) => {
    await cp(raw, folder, { recursive: true })
    const card = (await readCard(raw)) ?? { format: 1 as const, kind: 'adapter' as const }
    await writeCard(folder, { ...card, calibration })
  })
  const shareOf = (keep: (row: PreferenceRow) => boolean): Interval => {
    const kept = held.flatMap((row, i) => (keep(row) ? [{ row, i }] : []))
    return clusteredShare(
      kept.map(({ i }) => won((chosen[i] ?? NaN) - (rejected[i] ?? NaN))),
      kept.map(({ row }) => conversationKey(row)),
      seed,
    )
  }
  const { value: accuracy, n: compared } = shareOf((row) => !isTie(row))
  return { calibration, accuracy, compared, decided: shareOf(isDecided), warnings }
}

type Platt = Omit<Extract<Calibration, { kind: 'platt' }>, 'version'>
type WinRate = Omit<Extract<Calibration, { kind: 'win_rate' }>, 'version'>
type Unnamed = Platt | WinRate
type Logits = { chosen: readonly number[]; rejected: readonly number[] }

/** A calibration by the name of what it is: of the weights, of what was fitted, and of what that was held against. */
function named(fitted: Unnamed, axis: Axis, of: readonly string[]): Calibration {
  const { quality, ...fit } = fitted
  const hash = createHash('sha256')
    .update(JSON.stringify([of, fit]))
    .digest('hex')
  const version = `${axis}-${hash.slice(0, 12)}`
  return { ...fit, ...(quality === undefined ? {} : { quality }), version }
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

type Labelled = { logit: number; outcome: boolean; cluster: string }

/** Answers with their absolute labels; the sides of the pairs where these are too few or all the same. */
function safetyLabels(
  held: readonly PreferenceRow[],
  { chosen, rejected }: Logits,
  warnings: string[],
): Labelled[] {
  const labelled = (row: PreferenceRow, logit: number, safe: boolean | null | undefined) =>
    safe == null ? [] : [{ logit, outcome: safe, cluster: conversationKey(row) }]
  const absolute = held.flatMap((row, i): Labelled[] => [
    ...labelled(row, chosen[i] ?? 0, row.chosen_safe),
    ...labelled(row, rejected[i] ?? 0, row.rejected_safe),
  ])
  const safe = absolute.filter(({ outcome }) => outcome).length
  if (absolute.length >= FEWEST_LABELS && safe > 0 && safe < absolute.length) return absolute
  warnings.push(
    `${absolute.length} absolute safety labels, of which ${safe} say safe, are too few to calibrate by (at least ${FEWEST_LABELS}, and both kinds): the sides of the pairs stand in, so the probability says which answer of a pair is the safer one and not how many are safe`,
  )
  return held.flatMap((row, i): Labelled[] =>
    isTie(row)
      ? []
      : [...labelled(row, chosen[i] ?? 0, true), ...labelled(row, rejected[i] ?? 0, false)],
  )
}

/** Platt scaling that never falls as the logit rises: where the best one would, the share of safe labels for all. */
function rising(rows: readonly Labelled[]): { a: number; b: number } {
  const fit = fitPlatt(
    rows.map(({ logit }) => logit),
    rows.map(({ outcome }) => outcome),
  )
  if (fit.a > 0) return fit
  const safe = rows.filter(({ outcome }) => outcome).length
  return { a: 0, b: Math.log((safe + 1) / (rows.length - safe + 1)) }
}

/** Platt scaling on the absolute labels. */
function calibrateSafety(
  held: readonly PreferenceRow[],
  seed: number,
  logits: Logits,
  warnings: string[],
): Platt {
  const rows = safetyLabels(held, logits, warnings)
  const fit = rising(rows)
  if (fit.a === 0)
    warnings.push(
      'the safety model does not tell safe from unsafe answers: on the held-out labels its logit is no higher for safe ones. Every answer gets the same probability, the share of safe labels, so a gate that goes by it holds back all answers or none: do not use this model as one',
    )
  const forecasts = crossFitted(rows, (list) => {
    const { a, b } = rising(list)
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
    ...{ kind: 'platt', ...fit, n: rows.length },
    ...(gate === false ? {} : { quality: { ...quality, gate } }),
  }
}

/** The temperature of differences, and how far the probabilities of pairs can be believed. */
function calibrateHelpfulness(
  held: readonly PreferenceRow[],
  seed: number,
  { chosen, rejected }: Logits,
): Omit<WinRate, 'anchors'> {
  const rows = held.map((row, i) => {
    // turned around at random, else every forecast would be of a win
    const turned = uniform(seed, 43, i) < 0.5
    const difference = (chosen[i] ?? 0) - (rejected[i] ?? 0)
    const first = uniform(seed, 49, i) < labelOf(row)
    return {
      difference: turned ? -difference : difference,
      wins: turned ? 1 - labelOf(row) : labelOf(row),
      // a soft label comes true as often as it says: taken for a hard one it would call its own forecast unsure
      outcome: first !== turned,
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
    ...{ kind: 'win_rate', temperature: temperature(rows), n: held.length },
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
