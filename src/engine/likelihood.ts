import { LibraError } from '../errors.ts'
import { packRows } from '../model/batch.ts'
import { tokenLogprobs } from '../model/heads.ts'
import { hiddenStates } from '../model/llama.ts'
import { dispose } from '../tensor/backend.ts'
import { read } from '../tensor/ops.ts'
import { encodeChat } from '../text/template.ts'
import type { Tokenizer } from '../text/tokenizer.ts'
import type { GivenText, Likelihood } from './engine.ts'
import type { Resident } from './residents.ts'
import { fit } from './scores.ts'

/** Tokens of one pass: each asks for the logits of a whole vocabulary. */
const PASS_TOKENS = 2048

/** The ids of a given text, and from which of them on it is what is measured. */
function encodeGiven(tokenizer: Tokenizer, given: GivenText): { ids: number[]; from: number } {
  if ('text' in given) {
    // without a token for the beginning nothing could foretell the first one
    const begin = tokenizer.bos === null ? [] : [tokenizer.bos]
    return { ids: [...begin, ...tokenizer.encode(given.text)], from: 1 }
  }
  const { ids, assistant } = encodeChat(tokenizer, given.messages)
  const last = assistant.lastIndexOf(1)
  const from = assistant.lastIndexOf(0, last) + 1
  const end = given.ended || ids[last] !== tokenizer.eos ? last + 1 : last
  return { ids: ids.slice(0, end), from: Math.max(1, from) }
}

/** See Engine.likelihoods. `between`: called between two passes. */
export async function likelihoods(
  { model, tokenizer }: Resident,
  texts: readonly GivenText[],
  between: () => Promise<void>,
): Promise<Likelihood[]> {
  const given = texts.map((text) => encodeGiven(tokenizer, text))
  for (const { ids } of given) fit(ids, model.config.context, 'error')
  const result = given.map(({ ids, from }): Likelihood => ({
    ...{ logprob: 0, tokens: Math.max(0, ids.length - from) },
  }))
  const rows = given.map(({ ids }) => ids)
  for (const pack of packRows(rows, PASS_TOKENS)) {
    const asked = pack.rows.flatMap((row, i) => {
      const { ids = [], from = 0 } = given[row] ?? {}
      return ids.slice(from).map((target, t) => ({ row, target, at: pack.at(i, from + t - 1) }))
    })
    if (asked.length === 0) continue
    const hidden = hiddenStates(model, pack)
    const positions = Int32Array.from(asked, ({ at }) => at)
    const head = tokenLogprobs(
      model,
      hidden,
      positions,
      Int32Array.from(asked, (a) => a.target),
    )
    const values = read(head.logprobs)
    asked.forEach(({ row }, i) => {
      const each = result[row]
      if (each !== undefined) each.logprob += values[i] ?? NaN
    })
    dispose([hidden, head])
    await between()
  }
  if (!result.every(({ logprob }) => Number.isFinite(logprob)))
    throw new LibraError('non_finite_output', 'the model gave no finite probability', {
      fault: 'engine',
    })
  return result
}
