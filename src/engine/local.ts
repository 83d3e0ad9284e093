import { createHash } from 'node:crypto'
import { LibraError } from '../errors.ts'
import { batchByLength } from '../model/batch.ts'
import { generate as generateTokens } from '../model/generate.ts'
import { logits, scalarHead } from '../model/heads.ts'
import { hiddenStates } from '../model/llama.ts'
import type { Llama, LoraPair } from '../model/llama.ts'
import {
  disposeBase,
  disposePairs,
  loadAdapter,
  loadBase,
  stackAdapters,
} from '../model/resident.ts'
import type { Message } from '../schemas/chat.ts'
import type { Calibration } from '../schemas/model.ts'
import { TrainSpec } from '../schemas/training.ts'
import type { TrainEvent } from '../schemas/training.ts'
import { device, dispose, scoped, tensorflowVersion, tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import { logSoftmax, read } from '../tensor/ops.ts'
import { encodeChat } from '../text/template.ts'
import { loadTokenizer } from '../text/tokenizer.ts'
import type { Tokenizer } from '../text/tokenizer.ts'
import { policyUpdate } from '../training/ppo/round.ts'
import { pretrain } from '../training/pretrain.ts'
import { rewardModel, SCORE_HEAD } from '../training/reward-model.ts'
import { sft } from '../training/sft.ts'
import { hashFolder, verifyFolder } from '../weights/atomic.ts'
import { readCard } from '../weights/folder.ts'
import type { Engine, ModelFiles } from './engine.ts'

/** Tokens of one scoring pass, padding included. */
const PASS_TOKENS = 8192

type Base = { model: Llama; tokenizer: Tokenizer }
type Resident = {
  model: Llama
  tokenizer: Tokenizer
  calibration: Calibration | null
  /** tokens that it reads, counted from the end: what it was trained on */
  window: number
  version: string
  pairs: Map<string, LoraPair>
  heads: Map<string, Tensor>
}

/** The engine in this process. Bases are held once and shared by every stack of adapters on them. */
export function createLocalEngine(): Engine {
  const bases = new Map<string, Promise<Base>>()
  const residents = new Map<string, Promise<Resident>>()

  function once<T>(map: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> {
    let found = map.get(key)
    if (found === undefined) {
      found = make()
      map.set(key, found)
      found.catch(() => map.delete(key))
    }
    return found
  }

  const base = (folder: string): Promise<Base> =>
    once(bases, folder, async () => {
      await verifyFolder(folder)
      const tokenizer = await loadTokenizer(folder)
      return { tokenizer, model: await loadBase(folder) }
    })

  const resident = (files: ModelFiles): Promise<Resident> =>
    once(residents, JSON.stringify(files), async () => {
      const { model, tokenizer } = await base(files.base)
      const hash = createHash('sha256').update(await hashFolder(files.base))
      const loaded = []
      for (const folder of files.adapters) {
        await verifyFolder(folder)
        loaded.push(await loadAdapter(model, folder))
        hash.update(await hashFolder(folder))
      }
      const card = await readCard(files.adapters.at(-1) ?? files.base)
      const pairs = stackAdapters(loaded.map(({ pairs }) => pairs))
      for (const { pairs } of loaded) disposePairs(pairs)
      const heads = new Map(loaded.flatMap(({ heads }) => [...heads]))
      const weights = new Map([...model.weights, ...heads])
      return {
        model: { ...model, weights, adapter: pairs },
        tokenizer,
        calibration: card?.calibration ?? null,
        window: card?.max_length ?? model.config.context,
        version: hash.digest('hex'),
        pairs,
        heads,
      }
    })

  function encode(
    { model, tokenizer }: Resident,
    messages: readonly Message[],
    room: number,
    onTooLong: 'error' | 'truncate',
    prompt: boolean,
  ) {
    const { ids } = encodeChat(tokenizer, messages, prompt)
    const limit = model.config.context - room
    if (ids.length <= limit) return { ids, truncated: false }
    if (onTooLong === 'truncate') return { ids: ids.slice(ids.length - limit), truncated: true }
    throw new LibraError(
      'context_length_exceeded',
      `the conversation has ${ids.length} tokens, the model takes ${limit}; shorten it or ask for on_too_long: "truncate"`,
      { details: { tokens: ids.length, limit } },
    )
  }

  return {
    async describe(files) {
      const { model, calibration, version, pairs } = await resident(files)
      const count = (tensors: Iterable<Tensor>): number =>
        [...tensors].reduce((n, t) => n + t.size, 0)
      return {
        parameters: count(model.weights.values()),
        adapterParameters: count([...pairs.values()].flatMap(({ a, b }) => [a, b])),
        contextLength: model.config.context,
        vocabularySize: model.config.vocabularySize,
        hasScoreHead: model.weights.has(SCORE_HEAD),
        calibration,
        version,
      }
    },
    async score({ model: files, conversations, onTooLong }) {
      const scorer = await resident(files)
      if (!scorer.model.weights.has(SCORE_HEAD))
        throw new LibraError(
          'no_score_head',
          'this model has no score head: it is not a reward model',
        )
      const encoded = conversations.map((messages) => {
        const { ids, truncated } = encode(scorer, messages, 0, onTooLong, false)
        if (ids.length <= scorer.window) return { ids, truncated }
        return { ids: ids.slice(ids.length - scorer.window), truncated: true }
      })
      const scores = encoded.map(({ ids, truncated }) => ({
        logit: NaN,
        tokens: ids.length,
        truncated,
      }))
      for (const pass of batchByLength(
        encoded.map(({ ids }) => ids),
        PASS_TOKENS,
        0,
      )) {
        const hidden = hiddenStates(scorer.model, pass.ids, pass.B, pass.T)
        const head = scalarHead(
          scorer.model,
          SCORE_HEAD,
          hidden,
          Int32Array.from(pass.lengths, (n, b) => b * pass.T + n - 1),
        )
        read(head).forEach((logit, b) => {
          const score = scores[pass.rows[b] ?? -1]
          if (score) score.logit = logit
        })
        dispose([hidden, head])
        await new Promise(setImmediate)
      }
      if (!scores.every(({ logit }) => Number.isFinite(logit)))
        throw new LibraError(
          'non_finite_output',
          'the reward model gave a score that is not finite',
          { fault: 'engine' },
        )
      return scores
    },
    async generate({ model: files, prompts, n, sampling, onTooLong }) {
      const policy = await resident(files)
      const { tokenizer } = policy
      const encoded = prompts.flatMap((messages) =>
        new Array<number[]>(n).fill(
          encode(
            policy,
            messages,
            Math.min(sampling.maxTokens, policy.model.config.context - 1),
            onTooLong,
            true,
          ).ids,
        ),
      )
      const stopped = (ids: readonly number[]): boolean =>
        sampling.stop.length > 0 && sampling.stop.some((s) => tokenizer.decode(ids).includes(s))
      const samples = await generateTokens(policy.model, encoded, sampling, {
        key: (row) => [sampling.seed, row],
        stopIds: new Set([tokenizer.eos]),
        done: (_, ids) => stopped(ids),
        between: () => new Promise(setImmediate),
      })
      const completions = samples.map(({ ids, logprobs, finish }, row) => {
        let text = tokenizer.decode(ids)
        for (const stop of sampling.stop)
          if (text.includes(stop)) text = text.slice(0, text.indexOf(stop))
        const tokens = ids.map((id) => tokenizer.decode([id]))
        const promptTokens = encoded[row]?.length ?? 0
        return { text, tokenIds: ids, tokens, logprobs, finish, promptTokens }
      })
      return prompts.map((_, i) => completions.slice(i * n, (i + 1) * n))
    },
    async optionLogprobs({ model: files, prompts, options }) {
      const judge = await resident(files)
      const optionIds = options.map((option) => {
        const ids = judge.tokenizer.encode(option)
        if (ids.length !== 1)
          throw new LibraError(
            'unsupported_option',
            `option ${JSON.stringify(option)} is ${ids.length} tokens in this model, one is needed`,
          )
        return ids[0] ?? 0
      })
      const limit = judge.model.config.context - 1
      const encoded = prompts.map((messages) => encodeChat(judge.tokenizer, messages, true).ids)
      const fitting = encoded.flatMap(({ length }, row) => (length <= limit ? [row] : []))
      const result = prompts.map((): number[] | null => null)
      const { vocabularySize: V } = judge.model.config
      for (const pass of batchByLength(encoded, PASS_TOKENS, 0, fitting)) {
        const hidden = hiddenStates(judge.model, pass.ids, pass.B, pass.T)
        const logp = scoped(() =>
          logSoftmax(
            logits(
              judge.model,
              hidden,
              Int32Array.from(pass.lengths, (n, b) => b * pass.T + n - 1),
            ),
          ),
        )
        const values = read(logp)
        pass.rows.forEach(
          (row, b) => (result[row] = optionIds.map((id) => values[b * V + id] ?? NaN)),
        )
        dispose([hidden, logp])
        await new Promise(setImmediate)
      }
      if (result.flat().some(Number.isNaN))
        throw new LibraError('non_finite_output', 'the judge model gave no finite probability', {
          fault: 'engine',
        })
      return result
    },
    train(spec, signal): AsyncIterable<TrainEvent> {
      const checked = TrainSpec.parse(spec)
      switch (checked.kind) {
        case 'pretrain':
          return pretrain(checked, signal)
        case 'sft':
          return sft(checked, signal)
        case 'reward_model':
          return rewardModel(checked, signal)
        case 'policy_update':
          return policyUpdate(checked, signal)
      }
    },
    status() {
      const { numTensors, numBytes } = tf.memory()
      return Promise.resolve({
        pid: process.pid,
        device,
        tensorflow: tensorflowVersion,
        numTensors,
        numBytes,
        loadedModels: residents.size,
      })
    },
    async close() {
      for (const loading of residents.values()) {
        const { pairs, heads } = await loading
        disposePairs(pairs)
        tf.dispose([...heads.values()])
      }
      for (const loading of bases.values()) disposeBase((await loading).model)
      residents.clear()
      bases.clear()
    },
  }
}
