import type { Context } from 'hono'
import type { ContentfulStatusCode } from 'hono/utils/http-status'
import type { z } from 'zod'
import { LibraError, serializeError } from '../errors.ts'

/** The only mapping of error codes to statuses. Anything not named is ours: 500. */
const STATUS: Record<string, ContentfulStatusCode> = {
  invalid_json: 400,
  invalid_request: 422,
  unsupported_media_type: 415,
  body_too_large: 413,
  not_found: 404,
  model_not_found: 404,
  file_not_found: 404,
  judge_not_found: 404,
  invalid_data: 422,
  prompt_mismatch: 422,
  empty_data: 422,
  too_little_data: 422,
  conflicting_options: 422,
  mixed_scorers: 422,
  incomplete_score: 422,
  wrong_model_kind: 422,
  unsupported_method: 422,
  path_not_allowed: 422,
  model_in_use: 409,
  already_ended: 409,
  not_resumable: 409,
  still_active: 409,
  wrong_run_kind: 422,
  paused: 409,
  waiting_for_labels: 409,
  data_changed: 409,
  idempotency_mismatch: 422,
  idempotency_busy: 409,
  context_length_exceeded: 422,
  no_score_head: 422,
  template_failed: 422,
  damaged_checkpoint: 422,
  unsupported_architecture: 422,
  already_exists: 409,
  non_finite_output: 424,
  judge_failed: 424,
  judge_misconfigured: 422,
  cancelled: 499 as ContentfulStatusCode, // nobody is there to read it
  model_too_large: 422,
  overloaded: 503,
  judge_not_audited: 409,
  judge_refused: 409,
  reward_model_not_probed: 409,
  reward_model_refused: 409,
  reward_model_stale: 409,
  engine_lost: 503,
  not_ready: 503,
}

/** application/problem+json, with OpenAI's `error` object in the same body so that both kinds of client understand. */
export function problem(c: Context, error: unknown): Response {
  const { code, message, details } = serializeError(error)
  const status = STATUS[code] ?? 500
  const shown = status === 500 ? 'an internal error; the server log says more' : message
  if (status === 500) console.error(error)
  const body = {
    type: 'about:blank',
    title: code,
    status,
    detail: shown,
    code,
    ...details,
    error: {
      message: shown,
      type: status >= 500 ? 'server_error' : 'invalid_request_error',
      code,
      param: (details['field'] as string | undefined) ?? null,
    },
  }
  const retry = details['retry_after']
  return c.body(JSON.stringify(body), status, {
    'content-type': 'application/problem+json',
    ...(typeof retry === 'number' ? { 'retry-after': String(retry) } : {}),
  })
}

const MAX_BODY = 4 * 1024 * 1024

/** The JSON of a body. Throws `unsupported_media_type`, `body_too_large`, `invalid_json`. */
export async function readJson(c: Context): Promise<unknown> {
  if (!(c.req.header('content-type') ?? '').startsWith('application/json'))
    throw new LibraError('unsupported_media_type', 'send JSON with content-type: application/json')
  const text = await c.req.text()
  if (text.length > MAX_BODY)
    throw new LibraError(
      'body_too_large',
      `the body has ${text.length} characters, at most ${MAX_BODY} are taken`,
    )
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new LibraError('invalid_json', 'the body is not JSON', { cause })
  }
}

export const readBody = async <T extends z.ZodType>(c: Context, schema: T): Promise<z.output<T>> =>
  check(schema, await readJson(c), 'body')

/** Checks a value. Throws `invalid_request` naming the first field that is wrong, and all of them in details. */
export function check<T extends z.ZodType>(schema: T, value: unknown, where: string): z.output<T> {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const errors = parsed.error.issues
    .flatMap(innermost)
    .map(({ path, message }) => ({ field: path.join('.'), message }))
  const [first] = errors
  throw new LibraError(
    'invalid_request',
    `${first?.field === '' ? where : first?.field}: ${first?.message}`,
    { details: { field: first?.field, errors } },
  )
}

/** How far a value is from one branch of a union: a field that the branch does not know tells more than one that is missing. */
const distance = (issues: readonly z.core.$ZodIssue[]): number =>
  issues.reduce(
    (n, issue) => n + (issue.code === 'unrecognized_keys' ? 2 * issue.keys.length : 1),
    0,
  )

/** What is wrong, and where. A union says only "invalid input": the branch that is nearest says why. */
export function innermost(issue: z.core.$ZodIssue): { path: PropertyKey[]; message: string }[] {
  if (issue.code !== 'invalid_union') return [{ path: [...issue.path], message: issue.message }]
  const [nearest = []] = issue.errors.toSorted((a, b) => distance(a) - distance(b))
  const best = nearest.flatMap(innermost)
  return best.length === 0
    ? [{ path: [...issue.path], message: issue.message }]
    : best.map(({ path, message }) => ({ path: [...issue.path, ...path], message }))
}
