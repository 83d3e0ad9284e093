/** Whose fault an error is: the caller's (told, not logged) or ours. */
export type Fault = 'user' | 'engine'

/**
 * The one error type of the project. `code` is stable and machine-readable, the message says what
 * was got, what is accepted and where; the mapping of codes to HTTP statuses lives in http/problem.ts.
 */
export class LibraError extends Error {
  readonly code: string
  readonly fault: Fault
  readonly details: Readonly<Record<string, unknown>>

  constructor(
    code: string,
    message: string,
    options: { fault?: Fault; details?: Record<string, unknown>; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'LibraError'
    this.code = code
    this.fault = options.fault ?? 'user'
    this.details = options.details ?? {}
  }
}

/** A plain object that survives a process boundary; `reviveError` turns it back. */
export type SerializedError = {
  code: string
  message: string
  fault: Fault
  details: Record<string, unknown>
  stack?: string | undefined
}

export function serializeError(error: unknown): SerializedError {
  if (error instanceof LibraError) {
    const { code, message, fault, details, stack } = error
    return { code, message, fault, details: { ...details }, stack }
  }
  const e = error instanceof Error ? error : new Error(String(error))
  return { code: 'internal', message: e.message, fault: 'engine', details: {}, stack: e.stack }
}

export function reviveError(e: SerializedError): LibraError {
  const error = new LibraError(e.code, e.message, { fault: e.fault, details: e.details })
  if (e.stack !== undefined) error.stack = e.stack
  return error
}

/** What ends work that is not wanted any more. */
export const cancelled = (): LibraError => new LibraError('cancelled', 'the run was cancelled')

/** What ends work that is to go on later. */
export const PAUSED = 'paused' as const
export const paused = (why = 'the run was paused'): LibraError => new LibraError(PAUSED, why)

/** What ends work that goes on when people have labelled what it is about. */
export const WAITING = 'waiting_for_labels' as const

/** What a list answers to a cursor that names none of its items, or one that is gone: a first page would begin it anew. */
export const unknownCursor = (after: string): LibraError =>
  new LibraError(
    'invalid_request',
    `after: no item ${JSON.stringify(after)}, or no more: give the id of the last item of the page before, or begin anew without it`,
    { details: { field: 'after' } },
  )
