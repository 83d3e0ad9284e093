import { z } from 'zod'
import { AuditFigure } from './audit.ts'
import { Messages } from './chat.ts'
import {
  agreesWithItself,
  ANNOTATOR_KINDS,
  Axis,
  CONTRADICTION,
  PreferenceRow,
  RankingRow,
} from './feedback.ts'
import { list, Page } from './http.ts'

export const PreferenceQuery = Page.extend({ axis: Axis.optional() })
export const PreferenceReply = PreferenceRow.extend({
  id: z.string(),
  object: z.literal('preference'),
  created_at: z.int(),
})
export const PreferenceList = list(PreferenceReply)
const GivenPair = PreferenceRow.omit({ id: true })
  .strict()
  .refine(({ chosen, rejected }) => chosen !== rejected, {
    path: ['rejected'],
    message: 'the same as chosen: neither of equal answers is better',
  })
  .refine(agreesWithItself, CONTRADICTION)
export const PreferencesRequest = z.strictObject({
  preferences: z.array(GivenPair).max(1000).default([]),
  rankings: z
    .array(RankingRow.strict())
    .max(100)
    .default([])
    .describe('K answers as people ordered them: stored as the pairs that they tell apart'),
})
export const PreferencesCreated = z.object({
  object: z.literal('list'),
  data: z.array(z.object({ id: z.string(), object: z.literal('preference') })),
  contradicted: z
    .int()
    .describe('labels that say the opposite of the same person’s word before; the last one counts'),
})

export const ImportRequest = z.strictObject({
  file: z
    .string()
    .min(1)
    .max(200)
    .describe(
      'id of an uploaded file of JSON Lines: TRL (turns or text, with prompt or without), HH, OpenAI, UltraFeedback (raw or binarized), PKU-SafeRLHF, rankings, or our own',
    ),
  axis: Axis.default('helpfulness').describe('of rows that name none'),
  source: z.string().min(1).max(200).optional().describe('default: the name of the file'),
  annotator: z.string().min(1).max(200).optional(),
  annotator_kind: z.enum(ANNOTATOR_KINDS).optional(),
})
export const ImportReply = z.object({
  object: z.literal('preference.import'),
  rows: z.int(),
  formats: z.record(z.string(), z.int()).describe('rows by layout'),
  stored: z.int().describe('pairs that were not there'),
  duplicates: z
    .int()
    .describe('labels that were there before, or twice in the file, or correct such a one'),
  contradicted: z
    .int()
    .describe('of these, that say the opposite of the same person’s word before'),
  without: z.int().describe('rows that hold no preference: ties, equal scores, equal answers'),
  errors: z.array(z.object({ line: z.int(), code: z.string(), message: z.string() })),
})

export const EXPORT_FORMATS = [
  'libra',
  'trl',
  'trl_text',
  'openai',
  'hh',
  'ultrafeedback',
  'pku',
] as const
export const SPLITS = ['train', 'test'] as const
export const ExportQuery = z.strictObject({
  format: z.enum(EXPORT_FORMATS).default('trl'),
  axis: Axis.optional(),
  annotator_kind: z.enum(ANNOTATOR_KINDS).optional(),
  split: z
    .enum(SPLITS)
    .optional()
    .describe('one side of a split by conversation: none is on both sides'),
  test_share: z.coerce.number().gt(0).lt(1).default(0.1),
  seed: z.coerce.number().int().min(0).default(0).describe('of the split'),
})

export const BlindQuery = z.strictObject({
  axis: Axis.default('helpfulness'),
  annotator: z.string().min(1).max(200),
  skip: z
    .string()
    .max(20_000)
    .default('')
    .transform((ids) => ids.split(','))
    .describe('ids, with commas between them'),
})
export const BlindReply = z.object({
  object: z.literal('preference.blind'),
  data: z
    .object({
      id: z.string(),
      axis: Axis,
      prompt: Messages,
      a: z.string(),
      b: z.string(),
      waiting: z.int().describe('pairs of this axis that runs wait for'),
    })
    .nullable()
    .describe('null: this annotator has labelled all'),
})

export const AgreementQuery = z.strictObject({ seed: z.coerce.number().int().min(0).default(0) })
export const AgreementReply = z.object({
  object: z.literal('list'),
  data: z.array(
    z.object({
      axis: Axis,
      judge: z.string(),
      judge_version: z.string().nullable(),
      prompt_version: z.string().nullable(),
      pairs: z.int().describe('that this judge and people have labelled'),
      figures: z.array(AuditFigure),
    }),
  ),
})
