import type { Engine, ModelFiles } from '../engine/engine.ts'
import type { Interval } from '../evaluation/statistics.ts'
import type { Judge } from '../judging/judge.ts'
import type { Message } from '../schemas/chat.ts'
import type { AuditFigure } from '../schemas/audit.ts'
import type { CheckResult } from '../schemas/checks.ts'
import type { Axis, PreferenceRow, PromptRow } from '../schemas/feedback.ts'
import type { Calibration } from '../schemas/model.ts'
import type { Decision } from './guard.ts'
import type { Audit, GuardReport } from './guarded.ts'
import type { AnsweredTwice, LabelFigures } from './label.ts'
import type { LoopData } from './mix.ts'
import type { Parts } from './parts.ts'

export type RewardModel = {
  files: ModelFiles
  calibration: Calibration
  accuracy: number
  /** of held-out pairs whose label is decided; what was trained before this was measured has none, nor the next */
  decided?: Interval
  warnings?: string[]
  /** what it was trained on; what was trained before this was kept has none */
  data?: LoopData
}
export type RewardModels = Record<Axis, RewardModel>

/** What was found of two reward models before they taught a policy. */
export type Approval = {
  checks: ({ id: string; axis: Axis; objections: string[] } & CheckResult)[]
}

/** What the loop needs of the world around it: an engine, judges, a folder, and a place to record parts. */
export type LoopWorld = {
  serving: Engine
  parts: Parts
  /** who labels in an iteration */
  judge(iteration: number): Judge
  folder: string
  signal: AbortSignal
  progress(stage: string, done: number, total: number, note?: string): void
  /** people's labels on some pairs, on both axes; throws while they are not there */
  people?(iteration: number, texts: readonly AnsweredTwice[]): Promise<PreferenceRow[]>
  /** how the judge's labels stand to people's */
  agreement?(people: readonly PreferenceRow[], judged: readonly PreferenceRow[]): AuditFigure[]
  /** throws where reward models must not teach a policy; `pairs` are what they learned from, on answers of `policy` */
  approve?(
    iteration: number,
    rewardModels: RewardModels,
    pairs: Record<Axis, PreferenceRow[]>,
    policy: ModelFiles,
  ): Promise<Approval>
  /** without one the guard has nothing to go by, and all rounds are done */
  audit?: Audit
  /** both reward models may be trained at once; default: one after the other */
  sideBySide?: boolean
  /** hears what the guard decides */
  tell?(iteration: number, decision: Decision): Promise<void>
  /** hears what came of an iteration before the next begins; what it throws ends the loop there */
  finished?(iteration: number, so: LoopResult): Promise<void>
  /** whether the loop ends where the guard stopped an iteration; default: yes */
  endsStopped?(iteration: number): boolean
}

export type LoopInput = {
  base: string
  /** a base of another size and seed, from which twins of the reward models learn the same; default: no twins */
  twinBase?: string | null
  dialogues: readonly { messages: Message[]; ended: boolean }[]
  prompts: readonly PromptRow[]
  /** pairs that people labelled: they join the judge's of the first iteration */
  pairs?: Record<Axis, PreferenceRow[]>
  /** the answers that helpfulness was held against before; default: some of the pairs' */
  references?: readonly (readonly Message[])[] | null
}
/** After one or more iterations. */
export type LoopResult = {
  sft: ModelFiles
  policy: ModelFiles
  /** of the last iteration */
  rewardModels: RewardModels
  /** metrics of all policy rounds, those that were given up included */
  rounds: Record<string, number>[]
  guard: GuardReport | null
  judge: LabelFigures
  /** of the last iteration's labels where people gave some of them */
  agreement: AuditFigure[]
  /** of the last iteration's reward models */
  approval: Approval
}
