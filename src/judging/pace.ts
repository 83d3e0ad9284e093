import { setTimeout as sleep } from 'node:timers/promises'

/** What a server allows in any 60 seconds; nothing: no bound. */
export type Rate = {
  requestsPerMinute?: number | undefined
  tokensPerMinute?: number | undefined
}
export type Pace = {
  /** waits until one more request may be sent; in order of the calls */
  take(stop: AbortSignal): Promise<void>
  /** tokens of a reply; they count from now on */
  spend(tokens: number): void
  /** nobody sends anything for so long: a server that turned one request away would turn away the others */
  hold(milliseconds: number): void
}
type Clock = {
  now(): number
  sleep(milliseconds: number, stop: AbortSignal): Promise<unknown>
}
const CLOCK: Clock = {
  now: () => performance.now(),
  sleep: (milliseconds, signal) => sleep(milliseconds, undefined, { signal }),
}
const WINDOW = 60_000

/** Keeps requests and tokens of a sliding minute under a rate. Tokens are known afterwards: the last reply may overshoot. */
export function createPace(
  { requestsPerMinute = Infinity, tokensPerMinute = Infinity }: Rate,
  clock: Clock = CLOCK,
): Pace {
  let sent: number[] = []
  let spent: { at: number; tokens: number }[] = []
  let heldUntil = -Infinity
  let line: Promise<unknown> = Promise.resolve()

  function wait(now: number): number {
    sent = sent.filter((at) => at > now - WINDOW)
    spent = spent.filter(({ at }) => at > now - WINDOW)
    const full = sent[sent.length - requestsPerMinute] // the one that has to leave the window first
    let tokens = spent.reduce((sum, each) => sum + each.tokens, 0)
    let free = -Infinity
    for (const each of spent) {
      if (tokens < tokensPerMinute) break
      tokens -= each.tokens
      free = each.at + WINDOW
    }
    return Math.max(heldUntil, free, full === undefined ? -Infinity : full + WINDOW) - now
  }

  async function turn(stop: AbortSignal): Promise<void> {
    for (;;) {
      stop.throwIfAborted()
      const now = clock.now()
      const left = wait(now)
      if (left <= 0) {
        sent.push(now)
        return
      }
      await clock.sleep(left, stop)
    }
  }

  return {
    take(stop) {
      const mine = line.then(() => turn(stop))
      line = mine.catch(() => {})
      return mine
    },
    spend(tokens) {
      if (tokens > 0) spent.push({ at: clock.now(), tokens })
    },
    hold(milliseconds) {
      heldUntil = Math.max(heldUntil, clock.now() + milliseconds)
    },
  }
}
