import type { Message } from '../schemas/chat.ts'
import type { Build, Calibration, Placed, PlacedScore } from '../schemas/model.ts'
import type { TrainSpec, TrainEvent } from '../schemas/training.ts'
import type { Merged, MergeOptions } from '../model/export.ts'

/** Where a model lies on disk: a base folder and an ordered stack of adapter folders. */
export type ModelFiles = { base: string; adapters: readonly string[] }

/** The model that a run wrote: its adapter on top of what it started from, or with all weights a base of its own. */
export const withCheckpoint = (
  start: ModelFiles,
  output: string,
  lora: object | null,
): { base: string; adapters: string[] } =>
  lora === null
    ? { base: output, adapters: [] }
    : { base: start.base, adapters: [...start.adapters, output] }

export type ModelInfo = {
  parameters: number
  adapterParameters: number
  contextLength: number
  vocabularySize: number
  hasScoreHead: boolean
  calibration: Calibration | null
  /** SHA-256 over the base weights, the adapters and the tokenizer: what a score row names. */
  version: string
  /** SHA-256 of each file that it is made of, by path */
  files: Record<string, string>
}

export type ScoreRequest = {
  model: ModelFiles
  conversations: readonly (readonly Message[])[]
  /** What to do with a conversation longer than the context. `truncate` keeps the end and reports it. */
  onTooLong: 'error' | 'truncate'
}
export type ScoreAllRequest = Omit<ScoreRequest, 'model'> & {
  models: readonly ModelFiles[]
  /** where the only conversation is to lie: to get the same rounding again */
  placed?: Placed
}
export type RawScore = {
  logit: number
  tokens: number
  truncated: boolean
  placed: PlacedScore
}

/** One model's scores, with what they were given by. */
export type ModelScores = Pick<ModelInfo, 'version' | 'calibration'> & { scores: RawScore[] }

export type SamplingOptions = {
  maxTokens: number
  temperature: number
  topP: number
  topK: number
  seed: number
  stop: readonly string[]
}
export type GenerateRequest = {
  model: ModelFiles
  prompts: readonly (readonly Message[])[]
  /** answers per prompt */
  n: number
  sampling: SamplingOptions
  onTooLong: 'error' | 'truncate'
}
export type Completion = {
  text: string
  tokenIds: number[]
  /** each token's text by itself */
  tokens: string[]
  /** log-probability of each token under the model, at temperature 1 without warping */
  logprobs: number[]
  finish: 'stop' | 'length'
  promptTokens: number
}

export type OptionsRequest = {
  model: ModelFiles
  prompts: readonly (readonly Message[])[]
  /** short texts at the start of the assistant's turn; one may begin with another, as 10 with 1 */
  options: readonly string[]
}

/** A text whose likelihood is asked for: plain, or a conversation's last turn, with the end of the turn where it ended. */
export type GivenText = { text: string } | { messages: readonly Message[]; ended: boolean }
export type LikelihoodRequest = { model: ModelFiles; texts: readonly GivenText[] }
/** Σ_t log π(x_t | x_<t) in nats over the tokens that are measured */
export type Likelihood = { logprob: number; tokens: number }

export type MergeRequest = { model: ModelFiles } & MergeOptions
export type { Merged }

/** GFLOP/s of a large matrix product, GB/s of memory read and written. */
export type Peak = { gflops: number; bandwidth: number }

export type EngineStatus = {
  pid: number
  device: string
  tensorflow: string
  numTensors: number
  numBytes: number
  loadedModels: number
  build: Build
}

/** The only door to tensors. The serving engine and the training engine are child processes behind it. */
export interface Engine {
  describe(model: ModelFiles): Promise<ModelInfo>
  /** Raw reward-model logits, one per conversation, in order. An aborted call leaves the queue at once. */
  score(request: ScoreRequest, signal?: AbortSignal): Promise<RawScore[]>
  /** The same by several models, in their order; those that stand on one base share its passes. */
  scoreAll(request: ScoreAllRequest, signal?: AbortSignal): Promise<ModelScores[]>
  /** `n` completions for each prompt, in order. An aborted call ends before its next token. */
  generate(request: GenerateRequest, signal?: AbortSignal): Promise<Completion[][]>
  /**
   * log P(the assistant's turn begins with the option, and with no longer one), per prompt and option (not
   * renormalised); null for a prompt that the model's context does not hold.
   */
  optionLogprobs(request: OptionsRequest): Promise<(number[] | null)[]>
  /**
   * log-probability of given texts, in order: of an assistant's last turn given what is before it, or of a plain text
   * (after its first token where the tokenizer has none for a beginning). Throws `context_length_exceeded`.
   */
  likelihoods(request: LikelihoodRequest): Promise<Likelihood[]>
  /** Writes base and adapters as one Hugging Face folder that transformers loads. */
  merge(request: MergeRequest): Promise<Merged>
  /** Runs one training run; ends after a `done` event, throws a LibraError when it fails. */
  train(spec: TrainSpec, signal?: AbortSignal): AsyncIterable<TrainEvent>
  status(): Promise<EngineStatus>
  /** What the device reaches at best; takes about a second. */
  peak(): Promise<Peak>
  close(): Promise<void>
}
