import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { PreferenceRow } from '../src/schemas/feedback.ts'
import { trainByteLevelBpe, writeTokenizer } from '../src/text/bpe-trainer.ts'
import type { Worker } from './worker.ts'

/** A random causal model and a reward model of the same shape, written by transformers, with a tokenizer of the texts. */
export async function makeCheckpoints(
  peer: Worker,
  folder: string,
  name: string,
  config: Record<string, number>,
  rows: readonly PreferenceRow[],
): Promise<{ lm: string; rm: string }> {
  const { vocab_size: vocabulary = 0 } = config
  const [lm, rm, words] = [`${name}-lm`, `${name}-rm`, `${name}-words`].map((x) =>
    join(folder, x),
  ) as [string, string, string]
  mkdirSync(words)
  const texts = rows
    .slice(0, 3000)
    .flatMap(({ chosen, prompt }) => [chosen, ...prompt.map(({ content }) => content)])
  await writeTokenizer(words, trainByteLevelBpe(texts, vocabulary))
  await peer.ask({ work: 'make', lm, rm, config: { ...config, ...controls(words) } })
  for (const file of ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja'])
    for (const model of [lm, rm])
      if (existsSync(join(words, file))) await copyFile(join(words, file), join(model, file))
  return { lm, rm }
}

function controls(words: string): Record<string, number> {
  const { added_tokens: added } = JSON.parse(
    readFileSync(join(words, 'tokenizer.json'), 'utf8'),
  ) as {
    added_tokens: { id: number; content: string }[]
  }
  const eos = added.find(({ content }) => content === '<|end|>')?.id ?? 0
  return { eos_token_id: eos, bos_token_id: eos, pad_token_id: 0 }
}
