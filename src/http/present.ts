import type { Run } from '../store/store.ts'
import type {
  AuditRow,
  CheckRow,
  FileRow,
  JudgeRow,
  ModelRow,
  PreferenceRecord,
} from '../store/store.ts'
import { JudgeSettings } from '../schemas/judging.ts'
import { toPreferenceRow } from '../services/data.ts'

/** Rows of the store as the API shows them. */

export const seconds = (milliseconds: number): number => Math.floor(milliseconds / 1000)

export const presentRun = (run: Run) => ({
  id: run.id,
  object: 'run' as const,
  kind: run.kind,
  state: run.state,
  parent: run.parent,
  part: run.part,
  config: run.config,
  seed: run.seed,
  data_hash: run.dataHash,
  parent_checkpoint: run.parentCheckpoint,
  output: run.output,
  device: run.device,
  code_version: run.codeVersion,
  created_at: run.createdAt,
  started_at: run.startedAt,
  ended_at: run.endedAt,
  error: run.error,
  summary: run.summary,
  tags: run.tags,
  notes: run.notes,
})

export const presentModel = (model: ModelRow) => ({
  id: model.id,
  object: 'model' as const,
  created: seconds(model.createdAt),
  owned_by: 'libra',
  kind: model.kind,
  axis: model.axis,
  run: model.run,
})

export const presentFile = (file: FileRow) => ({
  id: file.id,
  object: 'file' as const,
  bytes: file.bytes,
  created_at: seconds(file.createdAt),
  filename: file.filename,
  purpose: file.purpose,
  status: 'processed' as const,
})

export const presentJudge = (judge: JudgeRow) => ({
  id: judge.id,
  object: 'judge' as const,
  kind: judge.kind,
  model: judge.model,
  base_url: judge.baseUrl,
  api_key_env: judge.apiKeyEnv,
  settings: judge.settings ?? JudgeSettings.parse({}),
})

export const presentAudit = (audit: AuditRow) => ({
  id: audit.id,
  object: 'audit' as const,
  judge: audit.judge,
  version: audit.version,
  prompt_version: audit.promptVersion,
  axis: audit.axis,
  data_hash: audit.dataHash,
  run: audit.run,
  figures: audit.figures,
  objections: audit.objections,
  created_at: audit.createdAt,
})

export const presentCheck = ({ result: { certificate, ...result }, ...check }: CheckRow) => ({
  id: check.id,
  object: 'reward_check' as const,
  check: check.check,
  model: check.model,
  version: check.version,
  axis: check.axis,
  data_hash: check.dataHash,
  run: check.run,
  ...result,
  // cards of before a policy attacked, too
  ...(certificate === undefined
    ? {}
    : { certificate: { ...certificate, policy_attack: certificate.policy_attack ?? null } }),
  objections: check.objections,
  created_at: check.createdAt,
})

export const presentPreference = (pair: PreferenceRecord) => ({
  ...toPreferenceRow(pair),
  id: pair.id,
  object: 'preference' as const,
  created_at: pair.createdAt,
})

/** A page in OpenAI's shape. */
export const presentPage = <T extends { id: string }>(data: T[], hasMore: boolean) => ({
  object: 'list' as const,
  data,
  first_id: data[0]?.id ?? null,
  last_id: data.at(-1)?.id ?? null,
  has_more: hasMore,
})
