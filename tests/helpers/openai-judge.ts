import { afterEach } from 'vitest'
import type { Comparison, Judge, Verdict } from '../../src/judging/judge.ts'
import { createOpenAiJudge, type OpenAiJudgeOptions } from '../../src/judging/openai-judge.ts'
import {
  type Received,
  type Scripted,
  type ScriptedServer,
  scriptedServer,
} from './scripted-server.ts'

export const KEY = 'sk-test-0123456789abcdef'
const servers: ScriptedServer[] = []
afterEach(() => Promise.all(servers.splice(0).map((server) => server.close())))

/** A judge and the server that it asks. */
export async function judged(
  script: (request: Received, index: number) => Scripted,
  options: Partial<OpenAiJudgeOptions> = {},
): Promise<{ judge: Judge; server: ScriptedServer }> {
  const server = await scriptedServer(script)
  servers.push(server)
  const judge = createOpenAiJudge({
    baseUrl: server.baseUrl,
    model: 'scripted',
    apiKey: KEY,
    ...options,
  })
  return { judge, server }
}

export const comparison: Comparison & { a: string; b: string } = {
  axis: 'helpfulness',
  prompt: [{ role: 'user', content: '乌鸦是什么颜色的？' }],
  a: '黑色的。',
  b: '蓝色的。',
}
/** Whether the good answer, a, is shown first. */
export const goodFirst = ({ user }: Received): boolean =>
  user.indexOf('黑色') < user.indexOf('蓝色')

/** What becomes of one comparison. */
export async function one(
  script: (request: Received, index: number) => Scripted,
  options: Partial<OpenAiJudgeOptions> = {},
): Promise<{ verdict: Verdict | undefined; server: ScriptedServer }> {
  const { judge, server } = await judged(script, options)
  const [verdict] = await judge.compare([comparison])
  return { verdict, server }
}
