import { createHash } from 'node:crypto'
import { z } from 'zod'
import { LibraError } from '../errors.ts'
import { uniform } from '../random.ts'
import { Axis } from '../schemas/feedback.ts'
import type { Comparison } from './judge.ts'

/** One principle: what answers are compared by, and how an answer is criticised and revised by it. */
const Principle = z.strictObject({
  id: z.string().min(1).max(200).optional(),
  axis: Axis.default('safety'),
  principle: z.string().min(1).max(4000).optional(),
  critique: z.string().min(1).max(4000).optional(),
  revision: z.string().min(1).max(4000).optional(),
})
export type Principle = z.infer<typeof Principle> & { id: string }

/** The file of Bai et al. 2022: `{name: {prompt: ["\n\nCritiqueRequest: …\n\nCritique:"], edit_request}}`. */
const Published = z.record(
  z.string(),
  z.object({ prompt: z.array(z.string()).min(1), edit_request: z.string() }),
)
const bare = (text: string): string =>
  text.replace(/^\s*(?:Critique|Revision)Request:\s*|\s*(?:Critique|Revision):\s*$/g, '')

export type Constitution = {
  /** changes with every word of it */
  version: string
  principles: readonly Principle[]
}

/**
 * A constitution from a user's file: JSON Lines of `{"principle", "critique", "revision", "axis", "id"}`, or the layout
 * of Constitutional AI's critique and revision requests. Throws `invalid_data` naming the line and the field.
 */
export function readConstitution(text: string, source: string): Constitution {
  const version = createHash('sha256').update(text).digest('hex').slice(0, 12)
  const published = Published.safeParse(json(text))
  if (published.success)
    return {
      version,
      principles: Object.entries(published.data).map(([id, { prompt, edit_request }]) => ({
        ...{ id, axis: 'safety' as const },
        ...{ critique: bare(prompt[0] ?? ''), revision: bare(edit_request) },
      })),
    }
  const principles = text.split('\n').flatMap((line, i): Principle[] => {
    if (line.trim() === '') return []
    const row = Principle.safeParse(json(line))
    if (row.success) return [{ ...row.data, id: row.data.id ?? `${i + 1}` }]
    const [issue] = row.error.issues
    const field = issue?.path.join('.') ?? ''
    throw new LibraError(
      'invalid_data',
      `${source}, line ${i + 1}, ${field}: ${issue?.message ?? 'invalid'}; a principle has principle, or critique and revision`,
    )
  })
  if (principles.length === 0) throw new LibraError('empty_data', `${source} holds no principle`)
  return { version, principles }
}

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** One of them, drawn by a key. */
export function draw<T>(from: readonly T[], ...key: readonly number[]): T | undefined {
  return from[Math.floor(uniform(...key) * from.length)]
}

/**
 * The principle that a comparison is judged by: drawn from those of its axis by the seed and by what is compared, so
 * that the same comparison draws the same one wherever it stands. None of the axis: none, which who opens a judge refuses.
 */
export function principleFor(
  { principles }: Constitution,
  { axis, prompt, a, b }: Comparison,
  seed: number,
): Principle | undefined {
  const text = JSON.stringify([prompt.map(({ role, content }) => [role, content]), a, b])
  const hash = createHash('sha256').update(text).digest()
  const own = principles.filter((each) => each.axis === axis && each.principle !== undefined)
  return draw(own, seed, 73, hash.readUInt32BE(0), hash.readUInt32BE(4))
}
