import type { Dtype } from '../weights/safetensors.ts'
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { disposeBase, initialize, loadBase } from '../model/resident.ts'
import type { Llama } from '../model/llama.ts'
import { DialogueRow, TextRow } from '../schemas/feedback.ts'
import type { TrainEvent, TrainSpec } from '../schemas/training.ts'
import { loadTokenizer } from '../text/tokenizer.ts'
import type { Tokenizer } from '../text/tokenizer.ts'
import { commitFolder } from '../weights/atomic.ts'
import { plainLlama } from '../weights/config.ts'
import { renderLlama } from '../weights/render.ts'
import { writeBase } from '../weights/folder.ts'
import { dialogueSequence } from './data.ts'
import { readRows } from '../text/rows.ts'
import { allParameters, toArray } from './parameters.ts'
import { resumable, trainTokens } from './steps.ts'
import type { Sequence } from './tokens.ts'
import type { Trainee } from './trainee.ts'

type Spec = Extract<TrainSpec, { kind: 'pretrain' }>

/** Trains a base from nothing on texts and dialogues, on every token, and writes a Hugging Face folder. */
export async function* pretrain(spec: Spec, signal?: AbortSignal): AsyncGenerator<TrainEvent> {
  const { options } = spec
  // 1. the tokenizer fixes the vocabulary, the architecture the rest
  const tokenizer = await loadTokenizer(spec.tokenizer)
  const { architecture: a } = options
  const config = plainLlama({
    vocabularySize: tokenizer.size,
    hiddenSize: a.hidden_size,
    intermediateSize: a.intermediate_size,
    layers: a.layers,
    heads: a.heads,
    kvHeads: a.kv_heads,
    headDim: a.hidden_size / a.heads,
    rmsNormEpsilon: 1e-5,
    ropeTheta: a.rope_theta,
    ropeScaling: null,
    context: a.context,
    tieWordEmbeddings: true,
  })
  // 2. data
  const rows = await readRows(spec.data, z.union([DialogueRow, TextRow]))
  const sequences = toSequences(tokenizer, rows, options.sequence_length)
  // 3. train and save; checkpoints are as precise as training is
  const resume = await resumable(spec.checkpoints)
  const model = resume.last ? await loadBase(resume.last.folder) : initialize(config, options.seed)
  try {
    const save: Trainee['save'] = (output, card, { dtype = 'F32', extra } = {}) =>
      commitFolder(output, async (folder) => {
        await writePretrained(folder, model, tokenizer, spec.tokenizer, card, dtype)
        await extra?.(folder)
      })
    const trainee = { model, trainable: 'all' as const, parameters: allParameters(model), save }
    yield* trainTokens(trainee, sequences, options, resume, signal)
    await save(spec.output, {}, { dtype: options.dtype })
    yield { type: 'done', output: spec.output, summary: {} }
  } finally {
    disposeBase(model)
  }
}

/** Dialogues one by one; plain texts laid end to end, with an end token between, and cut to length. */
function toSequences(
  tokenizer: Tokenizer,
  rows: readonly (DialogueRow | TextRow)[],
  length: number,
): Sequence[] {
  const sequences: Sequence[] = []
  let stream: number[] = []
  for (const row of rows) {
    if ('messages' in row) {
      sequences.push(dialogueSequence(tokenizer, row, true, length))
      continue
    }
    stream.push(
      ...(tokenizer.bos === null ? [] : [tokenizer.bos]),
      ...tokenizer.encode(row.text),
      tokenizer.eos,
    )
    while (stream.length >= length) {
      sequences.push({ ids: stream.slice(0, length), counts: new Array<number>(length).fill(1) })
      stream = stream.slice(length)
    }
  }
  return sequences
}

async function writePretrained(
  folder: string,
  model: Llama,
  tokenizer: Tokenizer,
  tokenizerFolder: string,
  card: Parameters<Trainee['save']>[1],
  dtype: Dtype,
): Promise<void> {
  const ids = { bos: tokenizer.bos ?? tokenizer.eos, eos: tokenizer.eos, pad: tokenizer.pad }
  for (const file of ['tokenizer.json', 'tokenizer_config.json'])
    await copyFile(join(tokenizerFolder, file), join(folder, file))
  const tensors = Object.fromEntries([...model.weights].map(([name, w]) => [name, toArray(w)]))
  const config = renderLlama(model.config, ids, dtype)
  await writeBase(folder, config, tensors, { format: 1, kind: 'base', ...card }, dtype)
}
