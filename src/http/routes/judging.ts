import { LibraError } from '../../errors.ts'
import {
  AuditList,
  JudgeProfile,
  JudgeProfileList,
  JudgeProfileReply,
  JudgeReply,
  JudgeRequest,
} from '../../schemas/verdicts.ts'
import { Page, RunReply } from '../../schemas/http.ts'
import {
  AgreementQuery,
  AgreementReply,
  BlindQuery,
  BlindReply,
  ExportQuery,
  ImportReply,
  ImportRequest,
  PreferenceList,
  PreferenceQuery,
  PreferencesCreated,
  PreferencesRequest,
} from '../../schemas/preferences.ts'
import { AXES } from '../../schemas/feedback.ts'
import { bodyOf } from '../../schemas/run.ts'
import type { RunRequest } from '../../schemas/run.ts'
import { toPreferenceRow } from '../../services/data.ts'
import { exportPairs } from '../../services/export.ts'
import { addJudge, askJudge, findJudge, judgeIds, pageJudges } from '../../services/judges.ts'
import {
  agreementWithPeople,
  importPairs,
  inPart,
  storePairs,
  toPairs,
} from '../../services/preferences.ts'
import { answerRequests } from '../../services/label-answers.ts'
import { nextBlind } from '../../services/people.ts'
import type { Services } from '../../services/services.ts'
import { startRun } from '../../services/start.ts'
import { route } from '../contract.ts'
import type { Route } from '../contract.ts'
import {
  presentAudit,
  presentJudge,
  presentPage,
  presentPreference,
  presentRun,
} from '../present.ts'

export const judgeRoutes = (services: Services): Route[] => [
  route(
    {
      method: 'post',
      path: '/v1/judge',
      tag: 'judging',
      summary: 'Compare pairs of answers, each in both orders, or score single answers',
      body: JudgeRequest,
      reply: JudgeReply,
    },
    async ({ body }) => {
      const { judge, verdicts } = await askJudge(services, body)
      return {
        object: 'list',
        judge: judge.name,
        prompt_version: judge.promptVersion,
        data: verdicts.map((verdict, index) => ({ index, ...verdict })),
        usage: judge.usage(),
      }
    },
  ),
  route(
    {
      method: 'get',
      path: '/v1/judges',
      tag: 'judging',
      summary: 'Judge profiles: the default one, then the others, newest first',
      query: Page,
      reply: JudgeProfileList,
    },
    async ({ query }) => {
      const { data, hasMore } = await pageJudges(services, query)
      return presentPage(data.map(presentJudge), hasMore)
    },
  ),
  route(
    {
      method: 'post',
      path: '/v1/judges',
      tag: 'judging',
      summary: 'Add a judge: a local model or an OpenAI-compatible server',
      body: JudgeProfile,
      reply: JudgeProfileReply,
      status: 201,
    },
    async ({ body }) => presentJudge(await addJudge(services, body)),
  ),
  ...auditRoutes(services),
]

// what a judge was found to be
const auditRoutes = (services: Services): Route[] => [
  route(
    {
      method: 'get',
      path: '/v1/judges/{id}/audits',
      tag: 'judging',
      summary: 'Audits of a judge beside people’s labels, newest first: may it label?',
      query: Page,
      reply: AuditList,
    },
    async ({ id, query }) => {
      await Promise.all(judgeIds(id).map((each) => findJudge(services, each)))
      const { data, hasMore } = await services.store.pageAudits(query, id)
      return presentPage(data.map(presentAudit), hasMore)
    },
  ),
]

export const preferenceRoutes = (services: Services): Route[] => [
  route(
    {
      method: 'get',
      path: '/v1/preferences',
      tag: 'preferences',
      summary: 'Preference pairs, newest first',
      query: PreferenceQuery,
      reply: PreferenceList,
    },
    async ({ query }) => {
      const { data, hasMore } = await services.store.pagePairs(query)
      return presentPage(data.map(presentPreference), hasMore)
    },
  ),
  route(
    {
      method: 'post',
      path: '/v1/preferences',
      tag: 'preferences',
      summary: 'Store preference pairs from people or judges, and rankings of people as pairs',
      body: PreferencesRequest,
      reply: PreferencesCreated,
      status: 201,
    },
    async ({ body }) => {
      const { pairs, ties } = toPairs(body)
      const { ids, contradicted } = await storePairs(services, pairs, null, ties)
      await answerRequests(services, pairs, ids)
      const data = ids.map((id) => ({ id, object: 'preference' as const }))
      return { object: 'list', data, contradicted }
    },
  ),
  route(
    {
      method: 'post',
      path: '/v1/preferences/import',
      tag: 'preferences',
      summary: 'Store the pairs of an uploaded file; rows that can’t be read are named',
      body: ImportRequest,
      reply: ImportReply,
      status: 201,
    },
    async ({ body }) => {
      const { pairs, ids, ...said } = await importPairs(services, body)
      await answerRequests(services, pairs, ids)
      return { object: 'preference.import', ...said }
    },
  ),
  route(
    {
      method: 'get',
      path: '/v1/preferences/blind',
      tag: 'preferences',
      summary:
        'A pair that this annotator has not labelled, first those that a run waits for, without what others said',
      query: BlindQuery,
      reply: BlindReply,
    },
    async ({ query }) => ({
      object: 'preference.blind',
      data: await nextBlind(services, query),
    }),
  ),
  route(
    {
      method: 'get',
      path: '/v1/preferences/agreement',
      tag: 'preferences',
      summary: 'Each judge beside people, on the pairs that both have labelled',
      query: AgreementQuery,
      reply: AgreementReply,
    },
    async ({ query }) => ({
      object: 'list',
      data: await agreementWithPeople(services, query.seed),
    }),
  ),
  route(
    {
      method: 'post',
      path: '/v1/preferences/label',
      tag: 'preferences',
      summary: 'Label prompts in bulk: two answers each, compared by a judge, stored as pairs',
      body: bodyOf('label'),
      reply: RunReply,
      status: 202,
    },
    async ({ body }) => {
      return presentRun(await startRun(services, { kind: 'label', ...body } as RunRequest))
    },
  ),
  route(
    {
      method: 'get',
      path: '/v1/preferences/export',
      tag: 'preferences',
      summary:
        'All pairs as JSON Lines for Libra, TRL, OpenAI or in the layout of HH; ties (soft labels of ½) only where the layout has soft labels, x-ties-left-out counts the others',
      query: ExportQuery,
      reply: 'application/jsonl',
    },
    async ({ c, query }) => {
      const axes = query.axis === undefined ? AXES : [query.axis]
      const all = (await Promise.all(axes.map((axis) => services.store.pairsOf(axis)))).flat()
      const pairs = all.filter((pair) => inPart(pair, query)).map(toPreferenceRow)
      const { rows, leftOut } = exportPairs(pairs, query.format)
      if (rows.length === 0)
        throw new LibraError(
          'not_found',
          `there are no pairs to export${leftOut === 0 ? '' : `: all ${leftOut} are ties, which ${query.format} has no label for`}`,
        )
      const lines = rows.map((row) => JSON.stringify(row))
      return c.body(lines.join('\n') + '\n', 200, {
        'content-type': 'application/jsonl',
        'x-ties-left-out': String(leftOut),
      })
    },
  ),
]
