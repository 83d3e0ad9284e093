import { setTimeout as sleep } from 'node:timers/promises'
import { LibraError } from '../errors.ts'
import type { ChatRequest, Dialect } from './openai-dialect.ts'
import { adapt, FIRST_DIALECT, requestBody } from './openai-dialect.ts'
import { Completion, excerpt } from './openai-reply.ts'
import type { Pace } from './pace.ts'
import { failed } from './respondent.ts'
import type { Failed, Failure } from './respondent.ts'

/** A reply is a letter with its log-probabilities or some prose; more than this is neither. */
const MAX_REPLY_BYTES = 1024 * 1024
/** A server that asks for a longer wait than this is out of service for our purpose; so long it is left alone. */
const LONGEST_WAIT_MS = 60_000
const FIRST_WAIT_MS = 500
const LONGEST_BACKOFF_MS = 8_000
/** How servers say that it is the text they object to, not the request. */
const FILTERED = /content_filter|content_policy|moderation|flagged/i

/** How servers say that a question does not fit the model's context. */
const TOO_LONG =
  /context[ _-]?(?:length|size|window)|maximum context|prompt is too long|`?inputs`? tokens \+/i

export type ChatOptions = {
  /** up to and without `/chat/completions`, most often ending in `/v1` */
  baseUrl: string
  model: string
  /** null or empty: no Authorization header */
  apiKey: string | null
  timeoutMs: number
  maxRetries: number
  /** every request is taken from it, retries too */
  pace: Pace
  fetch: typeof globalThis.fetch
}

/** One question, asked until there is an answer or no hope of one. Throws only where the configuration is wrong. */
export type Ask = (request: ChatRequest, stop: AbortSignal) => Promise<Answer>
export type Answer = { ok: true; completion: Completion } | Failed
type Attempt = Answer & { again?: Dialect | 'later' | 'once'; waitMs?: number | null }

const misconfigured = (message: string, details: Record<string, unknown> = {}): LibraError =>
  new LibraError('judge_misconfigured', message, { details })

export function createChatClient(options: ChatOptions): Ask {
  const { model, timeoutMs, maxRetries, pace } = options
  const key = checkedKey(options.apiKey)
  const url = checkedUrl(options.baseUrl)
  const where = url.host
  let dialect = FIRST_DIALECT

  /** Servers echo keys in errors. A few letters (`EMPTY`, `x`) are a placeholder and may be part of any word. */
  const redacted = (text: string): string =>
    key.length < 8 ? text : text.replaceAll(key, '[API key]')

  async function attempt(request: ChatRequest, used: Dialect, stop: AbortSignal): Promise<Attempt> {
    await pace.take(stop)
    const deadline = AbortSignal.timeout(timeoutMs)
    try {
      const response = await options.fetch(url, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          accept: 'application/json',
          ...(key === '' ? {} : { authorization: `Bearer ${key}` }),
        },
        body: requestBody(model, request, used),
        redirect: 'manual', // the key is for this origin alone
        signal: AbortSignal.any([deadline, stop]),
      })
      const text = redacted(await readCapped(response))
      return response.ok ? completed(text) : refusedBy(response, text, used)
    } catch (error) {
      if (error instanceof LibraError) throw error
      stop.throwIfAborted()
      const code = networkCode(error)
      if (deadline.aborted || code.includes('TIMEOUT'))
        return {
          ...failed('timeout', `${where} did not answer within ${timeoutMs} ms`),
          again: 'once', // a lost connection is worth another try, a slow server is not worth many
        }
      return { ...failed('unavailable', `no answer from ${where} (${code})`), again: 'later' }
    }
  }

  function refusedBy(response: Response, text: string, used: Dialect): Attempt {
    const { status, headers } = response
    const said = excerpt(errorText(text))
    const fail = (failure: Failure, message: string): Failed =>
      failed(failure, `${message}: ${where} answered ${status} ${said}`)
    if ([400, 403, 422].includes(status) && FILTERED.test(text))
      return fail('refused', 'the judge does not take this text')
    if ([400, 413, 422].includes(status) && TOO_LONG.test(errorText(text)))
      return fail('too_long', "the question does not fit the judge's context")
    if (status === 402 || (status === 429 && /insufficient_quota/.test(text)))
      return fail('over_budget', "the judge's account is used up")
    if ([408, 429].includes(status) || status >= 500) {
      const failure = fail(status === 408 ? 'timeout' : 'unavailable', 'the judge is not available')
      const waitMs = askedWait(headers)
      if (headers.get('x-should-retry') === 'false') return { ...failure, waitMs }
      return { ...failure, again: 'later', waitMs }
    }
    // Not the server's words here: some repeat part of the key.
    if (status === 401 || status === 403)
      throw misconfigured(
        `${where} answered ${status} for the model "${model}": check the judge's API key and what it may use`,
        { status },
      )
    if (status === 404 || status === 405 || (status >= 300 && status < 400))
      throw misconfigured(
        `${url.origin}${url.pathname} answered ${status}: check the judge's base URL (it most often ends in /v1; redirects are not followed) and that the model "${model}" exists there`,
        { status },
      )
    const other = status === 400 || status === 422 ? adapt(used, errorText(text)) : null
    const failure = fail('refused', 'the judge did not accept the request')
    return other === null ? failure : { ...failure, again: other }
  }

  return async (request, stop) => {
    for (let retries = 0; ;) {
      stop.throwIfAborted()
      const { again, waitMs, ...answer } = await attempt(request, dialect, stop)
      if (answer.ok) pace.spend(answer.completion.usage?.total_tokens ?? 0)
      // what one request was told holds for all of them, also where this one is given up
      if (waitMs) pace.hold(Math.min(waitMs, LONGEST_WAIT_MS))
      if (answer.ok || again === undefined) return answer
      if (typeof again === 'object') {
        dialect = again // each step only gives something up, so this ends
        continue
      }
      const most = again === 'once' ? Math.min(1, maxRetries) : maxRetries
      if (retries >= most || (waitMs ?? 0) > LONGEST_WAIT_MS) return answer
      // `Retry-After: 0` or a time that has passed takes nothing off the back-off
      const own = backoff(retries++)
      if ((waitMs ?? 0) < own) await sleep(own, undefined, { signal: stop })
    }
  }
}

function completed(text: string): Answer {
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    return failed('unparseable', `the judge's reply is not JSON but ${excerpt(text)}`)
  }
  const parsed = Completion.safeParse(body)
  return parsed.success
    ? { ok: true, completion: parsed.data }
    : failed('unparseable', `the judge's reply is no chat completion but ${excerpt(text)}`)
}

/** Half of it by chance, so that requests that failed together do not come back together. */
function backoff(retries: number): number {
  return Math.min(LONGEST_BACKOFF_MS, FIRST_WAIT_MS * 2 ** retries) * (0.5 + Math.random() / 2)
}

/** `retry-after-ms`, else `retry-after` in seconds or as a date; null where the server says nothing usable. */
export function askedWait(headers: Headers, now = Date.now()): number | null {
  const ms = headers.get('retry-after-ms')
  const after = headers.get('retry-after')
  const number = ms !== null ? Number(ms) : after !== null ? Number(after) * 1000 : NaN
  const wait = Number.isNaN(number) && after !== null ? Date.parse(after) - now : number
  return Number.isNaN(wait) ? null : Math.max(0, wait)
}

async function readCapped(response: Response): Promise<string> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of response.body ?? []) {
    size += chunk.length
    if (size > MAX_REPLY_BYTES) break // leaving the loop cancels the body; what is cut off does not parse
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/**
 * The message of OpenAI's, FastAPI's and TEI's error bodies, else the text itself. FastAPI's list of
 * errors repeats the whole request as `input`: only its `loc` and `msg` say what is wrong.
 */
function errorText(text: string): string {
  try {
    const { error, message, detail } = JSON.parse(text) as Record<string, unknown>
    if (Array.isArray(detail))
      return detail.map(({ loc, msg }: Record<string, unknown>) => `${loc}: ${msg}`).join('; ')
    const inner = (error as { message?: unknown } | undefined)?.message
    return String([inner, error, message, detail].find((x) => typeof x === 'string') ?? text)
  } catch {
    return text
  }
}

/** Never the error's message: fetch quotes a header that it does not like. */
function networkCode(error: unknown): string {
  for (let e = error; e instanceof Error; e = e.cause)
    if ('code' in e && typeof e.code === 'string') return e.code
  return 'connection failed'
}

function checkedKey(apiKey: string | null): string {
  const key = apiKey?.trim() ?? ''
  if (/^[\x21-\x7e]*$/.test(key)) return key
  throw misconfigured("the judge's API key contains spaces or characters outside ASCII")
}

/** Why no judge can be asked at this address, or null where one can. */
export function urlObjection(baseUrl: string): string | null {
  const url = URL.canParse(baseUrl) ? new URL(baseUrl) : null
  if (url === null || !['http:', 'https:'].includes(url.protocol))
    return 'must begin with http:// or https://'
  return url.username === '' && url.password === ''
    ? null
    : 'must not contain a user or password: use the API key'
}

function checkedUrl(baseUrl: string): URL {
  const objection = urlObjection(baseUrl)
  if (objection !== null) throw misconfigured(`the judge's base URL ${objection}`)
  const url = new URL(baseUrl)
  url.pathname = `${url.pathname.replace(/\/+$/, '')}/chat/completions`
  return url
}
