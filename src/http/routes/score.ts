import { AXES } from '../../schemas/feedback.ts'
import {
  CombineReply,
  CombineRequest,
  RankReply,
  RankRequest,
  ReplayReply,
  ScoreReply,
  ScoreRequest,
} from '../../schemas/scoring.ts'
import { Page } from '../../schemas/http.ts'
import { compareCombiners } from '../../services/combining.ts'
import { rankCandidates } from '../../services/ranking.ts'
import { findScores, replayScore } from '../../services/replay.ts'
import { scoreConversations } from '../../services/scoring.ts'
import type { Services } from '../../services/services.ts'
import { route } from '../contract.ts'
import type { Route } from '../contract.ts'
import { presentPage } from '../present.ts'

export const scoreRoutes = (services: Services): Route[] => [
  route(
    {
      method: 'post',
      path: '/v1/score',
      tag: 'scoring',
      summary: 'Score conversations on both axes and combine them by the gate',
      body: ScoreRequest,
      reply: ScoreReply,
    },
    async ({ c, body }) => {
      const { signal } = c.req.raw // a client that goes frees its place
      const { data, tokens, models } = await scoreConversations(services, body, signal)
      const usage = { prompt_tokens: tokens, total_tokens: tokens }
      return { object: 'list', model: models, data, usage }
    },
  ),
  route(
    {
      method: 'post',
      path: '/v1/score/combine',
      tag: 'scoring',
      summary: 'What the gate, the Lagrangian and others make of stored scores, side by side',
      body: CombineRequest,
      reply: CombineReply,
    },
    ({ body }) => compareCombiners(services.store, body),
  ),
  route(
    {
      method: 'get',
      path: '/v1/scores',
      tag: 'scoring',
      summary: 'Stored scores, newest first, one row for each axis',
      query: Page,
      reply: 'application/json',
    },
    async ({ query }) => {
      const { data, hasMore } = await services.store.scores.page(query)
      return presentPage(data, hasMore)
    },
  ),
  route(
    {
      method: 'get',
      path: '/v1/scores/{id}',
      tag: 'scoring',
      summary: 'Where a score came from, by axis: its model, calibration and conversation',
      reply: 'application/json',
    },
    async ({ id }) => {
      const rows = await findScores(services.store, id)
      return AXES.some((axis) => id.endsWith(`_${axis}`)) ? rows[0] : { object: 'list', data: rows }
    },
  ),
  route(
    {
      method: 'post',
      path: '/v1/scores/{id}/replay',
      tag: 'scoring',
      summary: 'Give a stored score again and show the difference: what has moved since?',
      reply: ReplayReply,
    },
    async ({ id }) => ({ object: 'list', data: await replayScore(services, id) }),
  ),
  route(
    {
      method: 'post',
      path: '/v1/rank',
      tag: 'scoring',
      summary: 'Order candidate answers by combined reward, one axis, Pareto front or judge',
      body: RankRequest,
      reply: RankReply,
    },
    async ({ body }) => ({
      object: 'list',
      by: body.by,
      ...(await rankCandidates(services, body)),
    }),
  ),
]
