import { LibraError } from '../errors.ts'
import { encodeChat } from '../text/template.ts'
import type { Tokenizer } from '../text/tokenizer.ts'
import { passesOfLogprobs } from '../training/sequence-logprobs.ts'
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
  const sequences = given.map(({ ids, from }) => ({
    ids,
    counts: ids.map((_, t) => Number(t >= from)),
  }))
  const passes = passesOfLogprobs(model, sequences, PASS_TOKENS)
  let read = passes.next()
  for (; read.done !== true; read = passes.next()) await between()
  const { sums, counts } = read.value
  const result = given.map((_, i) => ({ logprob: sums[i] ?? NaN, tokens: counts[i] ?? NaN }))
  if (!result.every(({ logprob }) => Number.isFinite(logprob)))
    throw new LibraError('non_finite_output', 'the model gave no finite probability', {
      fault: 'engine',
    })
  return result
}
