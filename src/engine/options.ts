import { LibraError } from '../errors.ts'
import { packRows } from '../model/batch.ts'
import { logits } from '../model/heads.ts'
import { hiddenStates } from '../model/llama.ts'
import { dispose, scoped } from '../tensor/backend.ts'
import { logSoftmax, read } from '../tensor/ops.ts'
import { encodeChat } from '../text/template.ts'
import type { OptionsRequest } from './engine.ts'
import type { Resident } from './residents.ts'
import { PASS_TOKENS } from './scores.ts'

type Paths = {
  /** the beginnings whose next token some option asks for; `[]` is the first */
  prefixes: number[][]
  /** of each option its steps: which beginning, which token follows */
  steps: { prefix: number; token: number }[][]
  /** of each option the shortest longer ones that begin with it */
  longer: number[][]
}

/** What has to be read for options of one or more tokens. */
export function optionPaths(optionIds: readonly (readonly number[])[]): Paths {
  const prefixes: number[][] = []
  const indexOf = new Map<string, number>()
  const at = (ids: readonly number[]): number => {
    const key = ids.join()
    const known = indexOf.get(key)
    if (known !== undefined) return known
    indexOf.set(key, prefixes.length)
    return prefixes.push([...ids]) - 1
  }
  const steps = optionIds.map((ids) =>
    ids.map((token, k) => ({ prefix: at(ids.slice(0, k)), token })),
  )
  const begins = (i: number, j: number): boolean => {
    const [short = [], long = []] = [optionIds[i], optionIds[j]]
    return short.length < long.length && short.every((id, k) => id === long[k])
  }
  const all = optionIds.map((_, i) => i)
  const longer = all.map((i) =>
    all.filter((j) => begins(i, j) && !all.some((k) => begins(i, k) && begins(k, j))),
  )
  return { prefixes, steps, longer }
}

/**
 * log P(the answer begins with this option and with no longer one), per option: the sum of its tokens'
 * log-probabilities, each given those before; what goes on to a longer option (10 after 1) is taken off.
 */
export function combinePaths(
  { steps, longer }: Paths,
  logp: (prefix: number, token: number) => number,
): number[] {
  const begin = steps.map((path) =>
    path.reduce((sum, { prefix, token }) => sum + logp(prefix, token), 0),
  )
  return begin.map((own, i) => {
    const rest = (longer[i] ?? []).reduce((sum, j) => sum + Math.exp((begin[j] ?? NaN) - own), 0)
    return rest === 0 ? own : own + Math.log(Math.max(0, 1 - rest))
  })
}

/** See Engine.optionLogprobs. `between`: called between two passes. */
export async function optionLogprobs(
  { model, tokenizer }: Resident,
  { prompts, options }: OptionsRequest,
  between: () => Promise<void>,
): Promise<(number[] | null)[]> {
  const paths = optionPaths(options.map((option) => tokenizer.encode(option)))
  const { prefixes } = paths
  const limit = model.config.context - Math.max(1, ...prefixes.map(({ length }) => length + 1))
  const encoded = prompts.map((messages) => encodeChat(tokenizer, messages, true).ids)
  const asked = encoded.flatMap((ids) => prefixes.map((prefix) => [...ids, ...prefix]))
  const fits = (row: number): boolean =>
    (encoded[Math.floor(row / prefixes.length)]?.length ?? 0) <= limit
  const order = asked.flatMap((_, row) => (fits(row) ? [row] : []))
  const { vocabularySize: V } = model.config
  const wanted = prefixes.map((_, p) => [
    ...new Set(
      paths.steps
        .flat()
        .filter(({ prefix }) => prefix === p)
        .map(({ token }) => token),
    ),
  ])
  const known = new Map<number, Map<number, number>>()
  for (const pass of packRows(asked, PASS_TOKENS, { order, shared: true })) {
    const hidden = hiddenStates(model, pass, { last: true })
    const logp = scoped(() => logSoftmax(logits(model, hidden, pass.ends)))
    const values = read(logp)
    pass.rows.forEach((row, i) => {
      const tokens = wanted[row % prefixes.length] ?? []
      known.set(row, new Map(tokens.map((id) => [id, values[i * V + id] ?? NaN])))
    })
    dispose([hidden, logp])
    await between()
  }
  const result = encoded.map((_, i) =>
    known.has(i * prefixes.length)
      ? combinePaths(paths, (p, token) => known.get(i * prefixes.length + p)?.get(token) ?? NaN)
      : null,
  )
  if (result.some((row) => row?.some(Number.isNaN)))
    throw new LibraError('non_finite_output', 'the judge model gave no finite probability', {
      fault: 'engine',
    })
  return result
}
