import type { z } from 'zod'
import { LibraError } from '../errors.ts'
import { cached } from '../judging/cache.ts'
import { readConstitution } from '../judging/constitution.ts'
import type { Constitution } from '../judging/constitution.ts'
import { createJudge, usable } from '../judging/judge.ts'
import type { Judge, SafetyVerdict, ScoreVerdict, Verdict } from '../judging/judge.ts'
import { createLocalRespondent } from '../judging/local-judge.ts'
import { urlObjection } from '../judging/openai-client.ts'
import { budgetLeft, createLine, createOpenAiRespondent } from '../judging/openai-judge.ts'
import type { Line } from '../judging/openai-judge.ts'
import { openAiWording } from '../judging/openai-prompts.ts'
import { createPanel } from '../judging/panel.ts'
import { localWording } from '../judging/prompts.ts'
import type { Clip } from '../judging/prompts.ts'
import { failed } from '../judging/respondent.ts'
import type { Respondent, Usage } from '../judging/respondent.ts'
import { drawnOrder } from '../rlaif/label.ts'
import { AXES } from '../schemas/feedback.ts'
import type { Axis } from '../schemas/feedback.ts'
import type { JudgeProfile, JudgeRequest } from '../schemas/verdicts.ts'
import { JudgeSettings } from '../schemas/judging.ts'
import type { Budget, CompareBy, Rationale as RationaleOptions } from '../schemas/judging.ts'
import type { Page, PageRequest } from '../store/collection.ts'
import type { JudgeRow } from '../store/store.ts'
import { readCard } from '../weights/folder.ts'
import { filesOf, findModel } from './catalog.ts'
import type { Services } from './services.ts'

/** The profile that is used where none is named: the server of the environment, else the model that plays the judge. */
export const DEFAULT_JUDGE = 'default'

type World = Pick<Services, 'store' | 'serving' | 'judges' | 'lines' | 'files'>
/** How a judge is opened for one piece of work. */
export type Opening = {
  /** it is asked again what is known from before, or, with `since`, from before that time (ms) */
  fresh?: boolean
  since?: number | undefined
  budget?: Budget
  /** what the same work has used up of the budget, of a panel's judges in order: it was ended and goes on */
  used?: readonly Usage[]
  clip?: Clip
  rationale?: z.output<typeof RationaleOptions> | undefined
  /** id of a file */
  constitution?: string | undefined
  /** of what is asked, each of which a constitution must have a principle of; default: both */
  axes?: readonly Axis[]
  /** of the principles that are drawn */
  seed?: number
  /** default: as a local judge's card says, else by letters */
  compare_by?: CompareBy | undefined
}
/** Between the profiles of a panel. */
const AND = '+'
/** The profiles that a judge's name stands for. */
export const judgeIds = (id: string): string[] => id.split(AND)

type Profiles = Pick<World, 'store' | 'judges'>

/** The judge that is there without a profile: a server that the environment names, else the model in the role. */
async function defaultJudge({ store, judges }: Profiles): Promise<JudgeRow> {
  const remote = judges.default
  return {
    ...{ id: DEFAULT_JUDGE, apiKeyEnv: null, settings: null, createdAt: 0 },
    kind: remote === null ? 'local' : 'openai',
    model: remote === null ? ((await store.roles()).judge ?? '') : remote.model,
    baseUrl: remote?.baseUrl ?? null,
  }
}

/** Judges, the default one first, then profiles from the newest on. Throws `invalid_request` where the cursor is gone. */
export async function pageJudges(
  world: Profiles,
  { limit, after }: PageRequest,
): Promise<Page<JudgeRow>> {
  const from = after === DEFAULT_JUDGE ? undefined : after
  const { data, hasMore } = await world.store.judges.page({ limit, after: from })
  if (after !== undefined) return { data, hasMore }
  const all = [await defaultJudge(world), ...data]
  return { data: all.slice(0, limit), hasMore: hasMore || all.length > limit }
}

const knownJudge = (world: Profiles, id: string): Promise<JudgeRow | null> =>
  id === DEFAULT_JUDGE ? defaultJudge(world) : world.store.judges.get(id)

/**
 * A judge by the id of its profile; several ids joined by + are a panel. A budget holds for each of its judges. Throws
 * `judge_not_found`, `model_not_found`, `judge_misconfigured`.
 */
export async function openJudge(world: World, id: string, opening: Opening = {}): Promise<Judge> {
  const ids = judgeIds(id)
  const { budget = {}, used = [] } = opening
  const left = (i: number): Opening => ({ ...opening, budget: budgetLeft(budget, used[i]) })
  if (ids.length === 1) return openOne(world, id, left(0))
  if (new Set(ids).size < ids.length)
    throw new LibraError('invalid_request', `judge ${id}: a panel has each judge once`, {
      details: { field: 'judge' },
    })
  const judges = ids.map((each, i) => openOne(world, each, left(i)))
  return createPanel(id, await Promise.all(judges))
}

async function openOne(world: World, id: string, opening: Opening): Promise<Judge> {
  const profile = await findJudge(world, id)
  const clip = opening.clip ?? profile.settings?.clip
  const wording =
    profile.baseUrl === null ? localWording(clip === undefined ? {} : { clip }) : openAiWording
  const { rationale, constitution, axes = AXES, seed = 0 } = opening
  const by = await comparesBy(world, profile, opening)
  return createJudge(await openRespondent(world, profile, opening), wording, {
    by,
    rationale: rationale && { maxTokens: rationale.max_tokens, clamp: rationale.clamp },
    constitution:
      constitution === undefined
        ? undefined
        : { ...(await toJudgeBy(world, constitution, axes)), seed },
  })
}

/** Throws `conflicting_options` where scores are asked for with what only letters can say. */
async function comparesBy(
  { store }: World,
  { baseUrl, model }: JudgeRow,
  { compare_by: wanted, rationale, constitution }: Opening,
): Promise<CompareBy> {
  const byLetter = rationale !== undefined || constitution !== undefined
  if (byLetter && wanted === 'score')
    throw new LibraError(
      'conflicting_options',
      'compare_by: a rationale and a constitution are about two answers at once; leave them out, or compare by letter',
      { details: { field: 'compare_by' } },
    )
  if (wanted !== undefined) return wanted
  if (byLetter || baseUrl !== null) return 'letter'
  const { base, adapters } = filesOf(await findModel(store, model))
  return (await readCard(adapters.at(-1) ?? base))?.compares_by ?? 'letter'
}

/** A constitution with a principle to judge each of the axes by, and not only to revise. Throws `empty_data`. */
async function toJudgeBy(world: World, id: string, axes: readonly Axis[]): Promise<Constitution> {
  const constitution = await openConstitution(world, id)
  const { principles } = constitution
  const judged = new Set(principles.flatMap((p) => (p.principle === undefined ? [] : [p.axis])))
  for (const axis of axes)
    if (!judged.has(axis))
      throw new LibraError(
        'empty_data',
        `constitution ${id}: none of its ${principles.length} entries has a \`principle\` of the axis ${axis}, which is asked about`,
        { details: { field: 'constitution' } },
      )
  return constitution
}

/** An uploaded file of principles. Throws `file_not_found`, `invalid_data`, `empty_data`. */
export async function openConstitution(
  { files }: Pick<World, 'files'>,
  id: string,
): Promise<Constitution> {
  const { text, source } = await files.text(id)
  return readConstitution(text, source)
}

export async function findJudge(world: World, id: string): Promise<JudgeRow> {
  const profile = await knownJudge(world, id)
  if (profile !== null) return profile
  throw new LibraError('judge_not_found', `no judge ${id}: GET /v1/judges lists them`, {
    details: { field: 'judge' },
  })
}

/** What answers for a profile, with its cache before it. */
export async function openRespondent(
  world: World,
  profile: JudgeRow,
  { fresh = false, since, budget = {} }: Opening,
): Promise<Respondent> {
  const { store, serving } = world
  const read = fresh ? (since ?? false) : true
  const { id, baseUrl, model } = profile
  const cache = { find: store.judgeAnswers, keep: store.keepJudgeAnswers }
  if (baseUrl === null) {
    for (const kind of ['tokens', 'cost'] as const)
      if (budget[kind] !== undefined)
        throw new LibraError(
          'judge_misconfigured',
          `budget.${kind}: judge ${id} is a local model, of which requests alone are counted; set budget.requests`,
          { details: { field: `budget.${kind}` } },
        )
    const files = filesOf(await findModel(store, model))
    return cached(createLocalRespondent(serving, files, id, budget), cache, { read })
  }
  const settings = profile.settings ?? JudgeSettings.parse({})
  if (budget.cost !== undefined && settings.price === undefined)
    throw new LibraError(
      'judge_misconfigured',
      `budget.cost: judge ${id} names no price, so nobody knows what it costs`,
      { details: { field: 'budget.cost' } },
    )
  const line = lineOf(world, id, settings)
  const respondent = createOpenAiRespondent({
    ...{ baseUrl, model, name: id, apiKey: keyOf(world, profile), line, budget },
    timeoutMs: settings.timeout_ms,
    maxRetries: settings.max_retries,
    maxTokens: settings.max_tokens,
    price: settings.price,
  })
  return cached(respondent, cache, { read })
}

function lineOf({ lines }: World, id: string, settings: JudgeSettings): Line {
  const line =
    lines.get(id) ??
    createLine(settings.max_concurrency, {
      requestsPerMinute: settings.requests_per_minute,
      tokensPerMinute: settings.tokens_per_minute,
    })
  lines.set(id, line)
  return line
}

/** The key of a profile, if its address is the one that the key belongs to. */
function keyOf({ judges }: World, { id, apiKeyEnv, baseUrl }: JudgeRow): string | null {
  if (id === DEFAULT_JUDGE) return judges.default?.apiKey ?? null
  if (apiKeyEnv === null) return null
  const found = judges.keyOf(apiKeyEnv)
  if (found === null || new URL(baseUrl ?? '').origin !== found.origin)
    throw new LibraError(
      'judge_misconfigured',
      `judge ${id}: set ${apiKeyEnv} to the key and ${apiKeyEnv}_ORIGIN to the origin it belongs to, which must be that of base_url`,
    )
  return found.key
}

type Asked = Verdict & { safe?: Record<'a' | 'b', SafetyVerdict> }

/**
 * Compares pairs of answers, scores single ones or says whether they are safe, as a request says. Throws
 * `invalid_request`, `conflicting_options`.
 */
export async function askJudge(
  world: World,
  request: z.output<typeof JudgeRequest>,
): Promise<{ judge: Judge; verdicts: Asked[] | ScoreVerdict[] | SafetyVerdict[] }> {
  const { comparisons, answers, rubric, positions, seed, inconsistent, absolute } = request
  const refused = (field: string, message: string): LibraError =>
    new LibraError('invalid_request', `${field}: ${message}`, { details: { field } })
  if ((comparisons === undefined) === (answers === undefined))
    throw refused('comparisons', 'either comparisons or answers are asked about')
  if (comparisons !== undefined && rubric !== undefined)
    throw refused('rubric', 'answers are scored by a rubric, comparisons are not')
  if (answers !== undefined && request.rationale?.clamp !== undefined)
    throw refused(
      'rationale.clamp',
      'holds the label of a comparison near one half; a score is none',
    )
  if (absolute && rubric !== undefined)
    throw refused('rubric', 'whether an answer is safe is no matter of a rubric')
  if (absolute && answers !== undefined && request.rationale !== undefined)
    throw refused('rationale', 'whether an answer is safe is said at once')
  if (answers !== undefined && request.constitution !== undefined)
    throw new LibraError(
      'conflicting_options',
      'constitution: its principles are for comparisons, single answers are not judged by one',
      { details: { field: 'constitution' } },
    )
  const axes = [...new Set((comparisons ?? []).map(({ axis }) => axis))]
  const judge = await openJudge(world, request.judge, { ...request, axes })
  if (answers !== undefined && absolute) return { judge, verdicts: await judge.assess(answers) }
  if (answers !== undefined)
    return { judge, verdicts: await judge.score(answers.map((each) => ({ ...each, rubric }))) }
  const verdicts = await judge.compare(
    (comparisons ?? []).map((comparison, i) => ({
      ...comparison,
      order: positions === 'both' ? 'both' : drawnOrder(seed, i),
    })),
  )
  const used = verdicts.map((verdict) => usable(verdict, inconsistent))
  if (!absolute) return { judge, verdicts: used }
  const both = await judge.assess(
    (comparisons ?? []).flatMap(({ prompt, a, b }) => [a, b].map((answer) => ({ prompt, answer }))),
  )
  const unknown = failed('unavailable', 'nothing was answered')
  const safe = (i: number) => ({ a: both[2 * i] ?? unknown, b: both[2 * i + 1] ?? unknown })
  return {
    judge,
    verdicts: used.map((verdict, i) => (verdict.ok ? { ...verdict, safe: safe(i) } : verdict)),
  }
}

/** What is wrong with where a profile's judge is to be asked, or null. */
function addressObjection({ kind, base_url: url }: z.output<typeof JudgeProfile>): string | null {
  if (kind === 'local')
    return url === undefined ? null : 'a local judge has no address: leave it out, or kind: openai'
  return url === undefined ? 'a judge on a server needs its address' : urlObjection(url)
}

/** Adds a profile. Throws `already_exists`, `model_not_found`, `invalid_request`. */
export async function addJudge(
  world: World,
  profile: z.output<typeof JudgeProfile>,
): Promise<JudgeRow> {
  const { store } = world
  if ((await knownJudge(world, profile.id)) !== null)
    throw new LibraError('already_exists', `a judge ${profile.id} is there already`)
  const objection = addressObjection(profile)
  if (objection !== null)
    throw new LibraError('invalid_request', `base_url: ${objection}`, {
      details: { field: 'base_url' },
    })
  if (profile.kind === 'local') await findModel(store, profile.model)
  const { id, kind, model, base_url: baseUrl = null, api_key_env: apiKeyEnv = null } = profile
  const { settings } = profile
  const row = { id, kind, model, baseUrl, apiKeyEnv, settings, createdAt: Date.now() }
  await store.judges.insert([row])
  return row
}
