import { LibraError } from '../errors.ts'
import { draw } from '../judging/constitution.ts'
import type { Principle } from '../judging/constitution.ts'
import { escaped, unescaped } from '../judging/openai-prompts.ts'
import type { Failure, Written } from '../judging/respondent.ts'
import type { Message } from '../schemas/chat.ts'
import { PromptRow } from '../schemas/feedback.ts'
import type { RunRequest } from '../schemas/run.ts'
import { filesOf, findPolicy } from './catalog.ts'
import { openData } from './data.ts'
import { findJudge, openConstitution, openRespondent } from './judges.ts'
import type { Services } from './services.ts'
import type { Plan } from './start.ts'

type Revision = { principle: string; critique: string; answer: string }
/** An answer on its way: what it is now, what it went through, or why it goes no further. */
type Draft = {
  prompt: Message[]
  first: string
  answer: string
  /** whether the last revision was longer than was let through */
  cut: boolean
  revisions: Revision[]
  failure?: Failure
}

/**
 * Critique and revision (Bai et al. 2022, section 3.1): a model answers, a critic names by a principle what is wrong
 * with the answer and writes it anew, several times, each by a principle drawn from the seed. The last answers are SFT
 * data; one that was cut off is marked, so that its end is not trained. A draft whose critique or revision failed is left
 * out and counted by type.
 */
export async function planRevision(
  services: Services,
  request: Extract<RunRequest, { kind: 'revision' }>,
): Promise<Plan> {
  const { store, serving, files } = services
  const { options } = request
  const model = filesOf(await findPolicy(store, request.model, 'model'))
  const { principles } = await openConstitution(services, request.constitution)
  const usable = principles.filter(
    ({ critique, revision }) => critique !== undefined && revision !== undefined,
  )
  if (usable.length === 0)
    throw new LibraError(
      'invalid_data',
      'constitution: no principle has a critique and a revision',
      {
        details: { field: 'constitution' },
      },
    )
  const profile = await findJudge(services, request.critic)
  const critic = await openRespondent(services, profile, options)
  const prompts = await openData(services, request.training_file, PromptRow)
  const { seed, temperature, max_new_tokens: maxTokens } = options
  // a model of this process takes no text for a control token
  const plain = (text: string): string => (profile.baseUrl === null ? text : escaped(text))
  const write: Write = async (dialogues, signal) => {
    const written = await critic.write(
      dialogues.map((messages) => ({
        messages: messages.map(({ role, content }) => ({ role, content: plain(content) })),
        maxTokens,
      })),
      { signal },
    )
    // what it repeats of a text is to be learned as it was
    return profile.baseUrl === null
      ? written
      : written.map((each) => (each.ok ? { ...each, text: unescaped(each.text) } : each))
  }
  return {
    seed,
    dataHash: prompts.hash,
    parentCheckpoint: model.adapters.at(-1) ?? model.base,
    async work({ id, emit, signal }) {
      // 1. the model's own answers
      const answers = await serving.generate(
        {
          ...{ model, prompts: prompts.rows.map(({ messages }) => messages), n: 1 },
          ...{ onTooLong: 'error' },
          sampling: { maxTokens, temperature, topP: 1, topK: 0, seed, stop: [] },
        },
        signal,
      )
      let drafts = prompts.rows.map(({ messages }, i): Draft => {
        const first = answers[i]?.[0]?.text ?? ''
        return { prompt: messages, first, answer: first, cut: false, revisions: [] }
      })
      // 2. criticised and revised
      for (let round = 1; round <= options.revisions; round++) {
        const drawn = drafts.map((_, i) => draw(usable, seed, 77, round, i))
        drafts = await reviseOnce(write, drafts, drawn, signal)
        const failed = drafts.filter(({ failure }) => failure !== undefined).length
        await emit({
          type: 'metrics',
          step: round,
          metrics: { revised: drafts.length - failed, failed },
        })
      }
      // 3. written down
      const done = drafts.filter(({ failure }) => failure === undefined)
      const failures: Partial<Record<Failure, number>> = {}
      for (const { failure } of drafts)
        if (failure !== undefined) failures[failure] = (failures[failure] ?? 0) + 1
      const counts = {
        ...{ rows: done.length, cut: done.filter(({ cut }) => cut).length },
        ...{ failed: drafts.length - done.length, failures },
      }
      if (done.length === 0) return { ...counts, file: null, usage: critic.usage() }
      const rows = done.map(({ prompt, first, answer, cut, revisions }) =>
        JSON.stringify({
          messages: [...prompt, { role: 'assistant', content: answer }],
          ...{ ended: !cut, first_answer: first, revisions },
        }),
      )
      const file = await files.save(`${id}.jsonl`, 'fine-tune', Buffer.from(`${rows.join('\n')}\n`))
      return { ...counts, file: file.id, usage: critic.usage() }
    },
  }
}

type Write = (dialogues: readonly Message[][], signal: AbortSignal) => Promise<Written[]>

/** One critique and one revision of every draft that has not failed. */
async function reviseOnce(
  write: Write,
  drafts: readonly Draft[],
  drawn: readonly (Principle | undefined)[],
  signal: AbortSignal,
): Promise<Draft[]> {
  const open = drafts.flatMap(({ failure }, i) => (failure === undefined ? [i] : []))
  const asked = open.map((i): Message[] => [
    ...(drafts[i]?.prompt ?? []),
    { role: 'assistant', content: drafts[i]?.answer ?? '' },
    { role: 'user', content: drawn[i]?.critique ?? '' },
  ])
  const critiques = await write(asked, signal)
  const heard = critiques.flatMap((critique, k) => (said(critique) === null ? [] : [k]))
  const revisions = await write(
    heard.map((k) => [
      ...(asked[k] ?? []),
      { role: 'assistant', content: said(critiques[k]) ?? '' },
      { role: 'user', content: drawn[open[k] ?? 0]?.revision ?? '' },
    ]),
    signal,
  )
  const next = [...drafts]
  for (const [k, i] of open.entries()) {
    const draft = drafts[i]
    if (draft === undefined) continue
    const [critique, revision] = [critiques[k], revisions[heard.indexOf(k)]]
    const [words, answer] = [said(critique), said(revision)]
    const failure = critique?.ok === false ? critique : revision?.ok === false ? revision : null
    next[i] =
      words === null || answer === null
        ? { ...draft, failure: failure?.failure ?? 'unparseable' } // an empty text revises nothing
        : {
            ...{ ...draft, answer, cut: revision?.ok === true && revision.cut === true },
            revisions: [
              ...draft.revisions,
              { principle: drawn[i]?.id ?? '', critique: words, answer },
            ],
          }
  }
  return next
}

/** What was written, null where it is nothing. */
const said = (written: Written | undefined): string | null =>
  written?.ok === true && written.text.trim() !== '' ? written.text.trim() : null
