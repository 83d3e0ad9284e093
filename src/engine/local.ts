import { cancelled } from '../errors.ts'
import { writeMerged } from '../model/export.ts'
import { generate as generateTokens } from '../model/generate.ts'
import { SCORE_HEAD } from '../model/heads.ts'
import { TrainSpec } from '../schemas/training.ts'
import type { TrainEvent } from '../schemas/training.ts'
import { device, tensorflowVersion, tf } from '../tensor/backend.ts'
import type { Tensor } from '../tensor/backend.ts'
import { measurePeak } from '../tensor/peak.ts'
import { encodeChat } from '../text/template.ts'
import { dpoPairs } from '../training/dpo.ts'
import { policyUpdate } from '../training/ppo/round.ts'
import { pretrain } from '../training/pretrain.ts'
import { createFeatures } from '../training/readout.ts'
import { rewardModel } from '../training/reward-model.ts'
import { sft } from '../training/sft.ts'
import { createBatcher } from './batcher.ts'
import { build } from './build.ts'
import type {
  Engine,
  GenerateRequest,
  LikelihoodRequest,
  ModelFiles,
  ModelInfo,
  OptionsRequest,
} from './engine.ts'
import { likelihoods } from './likelihood.ts'
import { optionLogprobs } from './options.ts'
import { createResidents } from './residents.ts'
import type { Resident } from './residents.ts'
import { createScoring, fit, PASS_TOKENS } from './scores.ts'

/** The engine in this process. Its models' weights stay within `memory` bytes together. */
export function createLocalEngine({ memory }: { memory?: number } = {}): Engine {
  const residents = createResidents(memory)
  const batcher = createBatcher(PASS_TOKENS)

  const scoreAll = createScoring(residents, batcher)
  const features = createFeatures()

  /** A call that works with the model that it names. */
  const withModel =
    <R extends { model: ModelFiles }, T>(
      work: (resident: Resident, request: R, signal?: AbortSignal) => Promise<T>,
    ) =>
    (request: R, signal?: AbortSignal): Promise<T> =>
      residents.use(request.model, (resident) => work(resident, request, signal))

  return {
    describe: (files) => residents.use(files, describe),
    score: async ({ model, ...request }, signal) =>
      (await scoreAll({ ...request, models: [model] }, signal)).flatMap(({ scores }) => scores),
    scoreAll,
    generate: withModel(async (policy, request: GenerateRequest, signal) => {
      const { prompts, n, sampling, onTooLong } = request
      const { tokenizer } = policy
      const encoded = prompts.flatMap((messages) =>
        new Array<number[]>(n).fill(
          fit(
            encodeChat(tokenizer, messages, true).ids,
            policy.model.config.context -
              Math.min(sampling.maxTokens, policy.model.config.context - 1),
            onTooLong,
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
    optionLogprobs: withModel((judge, request: OptionsRequest) =>
      optionLogprobs(judge, request, () => batcher.between()),
    ),
    likelihoods: withModel((resident, { texts }: LikelihoodRequest) =>
      likelihoods(resident, texts, () => batcher.between()),
    ),
    merge: ({ model, ...options }) => writeMerged(model, options),
    train(spec, signal): AsyncIterable<TrainEvent> {
      const checked = TrainSpec.parse(spec)
      switch (checked.kind) {
        case 'pretrain':
          return pretrain(checked, signal)
        case 'sft':
          return sft(checked, signal)
        case 'reward_model':
          return rewardModel(checked, features, signal)
        case 'dpo':
          return dpoPairs(checked, signal)
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
        build,
      })
    },
    peak: () => Promise.resolve(measurePeak()),
    close: () => residents.close(),
  }
}

function describe({ model, calibration, version, files, pairs }: Resident): Promise<ModelInfo> {
  const count = (tensors: Iterable<Tensor>): number => [...tensors].reduce((n, t) => n + t.size, 0)
  return Promise.resolve({
    parameters: count(model.weights.values()),
    adapterParameters: count([...pairs.values()].flatMap(({ a, b }) => [a, b])),
    contextLength: model.config.context,
    vocabularySize: model.config.vocabularySize,
    hasScoreHead: model.weights.has(SCORE_HEAD),
    ...{ calibration, version, files },
  })
}
