import { InvalidArgumentError } from 'commander'

// Readers of options: commander names the option with what they refuse.

/** A value that is written as JSON. */
export function json(text: string): Record<string, unknown> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new InvalidArgumentError(error instanceof Error ? error.message : 'not JSON')
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value }
  throw new InvalidArgumentError('an object is needed, as {"a": 1}')
}

/** A whole number from 1 on. */
export function count(text: string): number {
  const number = Number(text)
  if (Number.isInteger(number) && number >= 1) return number
  throw new InvalidArgumentError('a whole number from 1 on is needed')
}

export type Part = { part: number; parts: number }
export const WHOLE: Part = { part: 1, parts: 1 }
/** What one of several processes takes, as 2/3. */
export function partOf(text: string): Part {
  const [part = NaN, parts = NaN, ...rest] = text.split('/').map(Number)
  const whole = Number.isInteger(part) && Number.isInteger(parts) && rest.length === 0
  if (whole && part >= 1 && part <= parts) return { part, parts }
  throw new InvalidArgumentError('part/parts is needed, as 1/2 and 2/2')
}
