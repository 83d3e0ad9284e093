import type { Engine } from '../../src/engine/engine.ts'
import { alignByAiFeedback } from '../../src/rlaif/loop.ts'
import type { Audit } from '../../src/rlaif/guarded.ts'
import { unrecorded } from '../../src/rlaif/parts.ts'
import type { LoopResult } from '../../src/rlaif/world.ts'
import type { Judge } from '../../src/judging/judge.ts'
import type { RlaifOptions } from '../../src/schemas/rlaif.ts'
import { sftDialogues } from '../../src/starter/corpus.ts'
import { gradeRollouts } from '../../src/starter/evaluate.ts'
import type { StarterPrompt } from '../../src/starter/world.ts'
import { starterRoles } from '../starter-roles.ts'

/** The main job in small on some prompts of the starter world, graded by gold, recorded nowhere. */
export const nanoLoop = (
  engine: Engine,
  { judge, ...world }: { folder: string; judge: Judge; audit?: Audit },
  asked: readonly StarterPrompt[],
  options: RlaifOptions,
): Promise<LoopResult> =>
  alignByAiFeedback(
    {
      ...{ serving: engine, progress: () => {}, judge: () => judge, ...world },
      parts: unrecorded(engine, { grade: gradeRollouts(asked) }),
      signal: new AbortController().signal,
    },
    {
      base: starterRoles().base.base,
      dialogues: sftDialogues(options.seed, options.dialogues),
      prompts: asked.map(({ id, messages }) => ({ id, messages })),
    },
    [options],
  )

export const meanOfRounds = (rounds: readonly Record<string, number>[], name: string): number =>
  rounds.reduce((sum, round) => sum + (round[name] ?? NaN), 0) / rounds.length
