import { cancelled, LibraError } from '../errors.ts'
import { packRows } from '../model/batch.ts'
import { writeMerged } from '../model/export.ts'
import { generate as generateTokens } from '../model/generate.ts'
import { logits, scalarHead } from '../model/heads.ts'
import { hiddenStates } from '../model/llama.ts'
import type { Message } from '../schemas/chat.ts'
import { TrainSpec } from '../schemas/training.ts'
import type { TrainEvent } from '../schemas/training.ts'
import { device, dispose, scoped, tensorflowVersion, tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import { logSoftmax, read } from '../tensor/ops.ts'
import { measurePeak } from '../tensor/peak.ts'
import { encodeChat } from '../text/template.ts'
import { policyUpdate } from '../training/ppo/round.ts'
import { pretrain } from '../training/pretrain.ts'
import { rewardModel, SCORE_HEAD } from '../training/reward-model.ts'
import { sft } from '../training/sft.ts'
import { createBatcher } from './batcher.ts'
import type {
  Engine,
  GenerateRequest,
  ModelFiles,
  ModelInfo,
  OptionsRequest,
  ScoreRequest,
} from './engine.ts'
import { createResidents } from './residents.ts'
import type { Resident } from './residents.ts'

/** Tokens of one scoring pass, padding included. */
const PASS_TOKENS = 8192

/** The engine in this process. Its models' weights stay within `memory` bytes together. */
export function createLocalEngine({ memory }: { memory?: number } = {}): Engine {
  const residents = createResidents(memory)
  const batcher = createBatcher(PASS_TOKENS)

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

  /** A call that works with the model that it names. */
  const withModel =
    <R extends { model: ModelFiles }, T>(
      work: (resident: Resident, request: R, signal?: AbortSignal) => Promise<T>,
    ) =>
    (request: R, signal?: AbortSignal): Promise<T> =>
      residents.use(request.model, (resident) => work(resident, request, signal))

  return {
    describe: (files) => residents.use(files, describe),
    score: withModel(async (scorer, { conversations, onTooLong }: ScoreRequest, signal) => {
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
      const rows = encoded.map(({ ids }) => ids)
      const group = { key: scorer.version, run: (ids: number[][]) => rewards(scorer, ids) }
      const values = await batcher.submit(group, rows, signal)
      const scores = encoded.map(({ ids, truncated }, i) => ({
        ...{ logit: values[i] ?? NaN, tokens: ids.length, truncated },
      }))
      if (!scores.every(({ logit }) => Number.isFinite(logit)))
        throw new LibraError(
          'non_finite_output',
          'the reward model gave a score that is not finite',
          { fault: 'engine' },
        )
      return scores
    }),
    generate: withModel(async (policy, request: GenerateRequest, signal) => {
      const { prompts, n, sampling, onTooLong } = request
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
        async between() {
          await batcher.between()
          if (signal?.aborted) throw cancelled()
        },
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
    }),
    optionLogprobs: withModel(async (judge, { prompts, options }: OptionsRequest) => {
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
      for (const pass of packRows(encoded, PASS_TOKENS, { order: fitting, shared: true })) {
        const hidden = hiddenStates(judge.model, pass, { last: true })
        const logp = scoped(() => logSoftmax(logits(judge.model, hidden, pass.ends)))
        const values = read(logp)
        pass.rows.forEach(
          (row, i) => (result[row] = optionIds.map((id) => values[i * V + id] ?? NaN)),
        )
        dispose([hidden, logp])
        await batcher.between()
      }
      if (result.flat().some(Number.isNaN))
        throw new LibraError('non_finite_output', 'the judge model gave no finite probability', {
          fault: 'engine',
        })
      return result
    }),
    merge: ({ model, ...options }) => writeMerged(model, options),
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
        loadedModels: residents.count(),
      })
    },
    peak: () => Promise.resolve(measurePeak()),
    close: () => residents.close(),
  }
}

function describe({ model, calibration, version, pairs }: Resident): Promise<ModelInfo> {
  const count = (tensors: Iterable<Tensor>): number => [...tensors].reduce((n, t) => n + t.size, 0)
  return Promise.resolve({
    parameters: count(model.weights.values()),
    adapterParameters: count([...pairs.values()].flatMap(({ a, b }) => [a, b])),
    contextLength: model.config.context,
    vocabularySize: model.config.vocabularySize,
    hasScoreHead: model.weights.has(SCORE_HEAD),
    calibration,
    version,
  })
}

/** The scalar head's value at the end of each row. */
function rewards({ model }: Resident, rows: readonly (readonly number[])[]): number[] {
  const values = rows.map(() => NaN)
  for (const pass of packRows(rows, PASS_TOKENS, { shared: true })) {
    const hidden = hiddenStates(model, pass, { last: true })
    const head = scalarHead(model, SCORE_HEAD, hidden, pass.ends)
    read(head).forEach((logit, i) => (values[pass.rows[i] ?? -1] = logit))
    dispose([hidden, head])
  }
  return values
}
