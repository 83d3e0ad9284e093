import { resolve } from 'node:path'
import { Command } from 'commander'
import { count, json, partOf, WHOLE } from './cli/flags.ts'
import type { Part } from './cli/flags.ts'
import { LibraError } from './errors.ts'

/** The command line. Each command loads only what it needs. */
const program = new Command('libra').description(
  'RLAIF: evaluate and align language models by AI feedback',
)

type RlaifFlags = {
  seed?: number
  options?: Record<string, unknown>
  override?: string[]
  data?: string
  base?: string
  sizes?: Record<string, unknown>
  resume?: string
}
program
  .command('rlaif')
  .description('the main job: align a policy by AI feedback under two reward models')
  .option('--seed <number>', 'seed of everything random', Number)
  .option('--options <json>', 'options of the loop as JSON (schemas/rlaif.ts)', json)
  .option(
    '--override <names...>',
    'judge_audit: a judge whose audit is missing or speaks against it; staleness; or probes that may fail',
  )
  .option('--resume <run>', 'go on with a loop that was interrupted, paused or failed')
  .option('--data <folder>', 'human preference pairs to run on, instead of the starter world')
  .option('--base <folder>', 'with --data: a Hugging Face folder to start from')
  .option('--sizes <json>', 'with --data: sizes instead of those for two cores', json)
  .action(async ({ seed, options, override, data, base, sizes, resume }: RlaifFlags) => {
    const { rlaif, rlaifOnData, rlaifAgain } = await import('./cli/rlaif.ts')
    if (resume !== undefined) return rlaifAgain(resume)
    const all = { ...options, ...(seed === undefined ? {} : { seed }) }
    await (data === undefined
      ? rlaif(all, override)
      : rlaifOnData(resolve(data), base ? resolve(base) : null, all, sizes, override))
  })

program
  .command('study-starter')
  .description('the main job over several seeds: does alignment help, and what does it cost?')
  .option('--seeds <number>', 'how many', count, 5)
  .option('--options <json>', 'options of the loop as JSON (schemas/rlaif.ts)', json)
  .option('--override <names...>', 'as of rlaif')
  .action(async ({ seeds, options, override }: RlaifFlags & { seeds: number }) => {
    const { studyStarter } = await import('./cli/rlaif.ts')
    await studyStarter(seeds, options ?? {}, override)
  })

type GuardFlags = {
  seeds: number
  honest: number
  only?: string[]
  part: Part
  out?: string
  keep?: boolean
}
program
  .command('study-guard')
  .description('the guard’s benchmark: what does it stop, what does it miss, what does it cost?')
  .option('--seeds <number>', 'loops of each failure', count, 20)
  .option('--honest <number>', 'loops that should not be stopped', Number, 30)
  .option('--only <failures...>', 'some of them by name (services/guard-failures.ts)')
  .option('--part <part/parts>', 'the seeds of one of several processes', partOf, WHOLE)
  .option(
    '--out <folder>',
    'finished loops, to go on from; default: guard-study in the data folder',
  )
  .option('--keep', 'leave the policies there as well')
  .action(async ({ seeds, honest, only = [], part, out, keep = false }: GuardFlags) => {
    const { studyTheGuard } = await import('./cli/study-guard.ts')
    const request = { seeds, honest, only, ...part, keep }
    await studyTheGuard(request, out ? resolve(out) : undefined)
  })

program
  .command('study-contrasts')
  .description('what judge and reward models tell apart on the starter world, thing by thing')
  .option('--judge <profile>', 'whom the reward models learned from', 'default')
  .option('--helpfulness <model>', 'model or role', 'helpfulness')
  .option('--safety <model>', 'model or role', 'safety')
  .option('--pairs <number>', 'of each kind at most', count, 1000)
  .action(async (flags: { judge: string; helpfulness: string; safety: string; pairs: number }) => {
    const { contrastStudy } = await import('./cli/study-contrasts.ts')
    await contrastStudy(flags)
  })

program
  .command('study-frontier')
  .description('every method and combiner against the exact optimum of a world that is enumerated')
  .option('--seeds <number>', 'how many, up to 10', Number, 5)
  .option('--output <file>', 'JSON Lines; a study goes on from what is there')
  .action(async ({ seeds, output }: { seeds: number; output?: string }) => {
    const { studyFrontier } = await import('./cli/study-frontier.ts')
    await studyFrontier(seeds, output === undefined ? undefined : resolve(output))
  })

type HumanFlags = {
  data: string
  base: string
  seeds: number
  reward?: Record<string, unknown>
  sft?: Record<string, unknown>
  part: Part
  out?: string
  figures: boolean
}
program
  .command('study-human')
  .description('reward models on human pairs by five folds and several seeds, beside counting')
  .requiredOption('--data <folder>', 'human preference pairs, as of rlaif')
  .requiredOption('--base <folder>', 'what the models start from: a base that rlaif --data left')
  .option('--seeds <number>', 'how many', count, 3)
  .option('--reward <json>', 'options of the reward models (schemas/training-options.ts)', json)
  .option('--sft <json>', 'start from an SFT on chosen answers, with these options', json)
  .option('--part <part/parts>', 'the folds of one of several processes', partOf, WHOLE)
  .option(
    '--out <file>',
    'JSON Lines of held-out logits, to go on from; default: study-human.jsonl in the data folder',
  )
  .option('--no-figures', 'train and score only')
  .action(async ({ data, base, seeds, reward = {}, sft, part, out, figures }: HumanFlags) => {
    const { studyHuman } = await import('./cli/study-human.ts')
    const request = { seeds, reward, sft: sft ?? null, ...part }
    await studyHuman(resolve(data), { ...request, base: resolve(base) }, figures, out)
  })

program
  .command('starter-build')
  .description('rebuild the starter models from nothing')
  .argument('<folder>', 'where to put them; must not hold them yet')
  .action(async (folder: string) => {
    const { starterBuild } = await import('./cli/starter-build.ts')
    await starterBuild(resolve(folder))
  })

type AuditFlags = {
  data?: string[]
  judge: string
  axis?: string
  limit?: number
  clip?: string
  self?: string
  write?: string
}
program
  .command('judge-audit')
  .description('ask a judge about pairs that people labelled: may it label?')
  .option(
    '--data <files...>',
    'JSON Lines, gzip or not (docs/judges.md); default: the starter world',
  )
  .option('--judge <profile>', 'whom to audit', 'default')
  .option('--axis <axis>', 'helpfulness or safety; default: helpfulness, of the starter world both')
  .option('--limit <number>', 'pairs of each file, drawn where it has more', Number)
  .option('--clip <prompt,answer>', 'characters that a local judge with a small context reads')
  .option('--self <name>', 'how the data name the judge’s own answers')
  .option('--write <file>', 'write the audits as JSON: how the starter judge’s is committed')
  .action(async ({ data, write, ...flags }: AuditFlags) => {
    const { judgeAudit } = await import('./cli/judge-audit.ts')
    const files = data?.map((file) => resolve(file)) ?? []
    await judgeAudit(files, { ...flags, ...(write ? { write: resolve(write) } : {}) })
  })

program
  .command('serve')
  .description('serve the HTTP API')
  .action(async () => {
    const { serve } = await import('./http/serve.ts')
    await serve()
  })

/** A command that asks: the engine starts while the rest loads. */
async function ask(
  name: 'score' | 'rank' | 'judge',
  file: string | undefined,
  flags: Record<string, unknown>,
): Promise<void> {
  const connecting = import('./cli/connection.ts').then(({ connect }) => connect())
  connecting.catch(() => {}) // told when it is needed
  const { ask } = await import('./cli/ask.ts')
  await ask(name, file, flags, connecting)
}

const list = (text: string): string[] => text.split(',')
program
  .command('score')
  .description('score conversations: JSON Lines in, the same lines with a field `score` out')
  .argument('[file]', 'default: what is piped in')
  .option('--axes <axes>', 'helpfulness, safety or both, with a comma', list)
  .option('--threshold <number>', 'of the gate', Number)
  .option('--on-too-long <what>', 'error or truncate')
  .action(async (file: string | undefined, { onTooLong: on_too_long, ...flags }) => {
    await ask('score', file, { ...flags, on_too_long })
  })

program
  .command('rank')
  .description('order candidates: lines of {prompt, candidates} in, with a field `rank` out')
  .argument('[file]', 'default: what is piped in')
  .option('--by <what>', 'combined, helpfulness, safety, pareto or judge')
  .option('--axis <axis>', 'what the judge is asked about')
  .option('--judge <profile>')
  .option('--threshold <number>', 'of the gate', Number)
  .action(async (file: string | undefined, flags: Record<string, unknown>) => {
    await ask('rank', file, flags)
  })

program
  .command('judge')
  .description('compare two answers: lines of {prompt, a, b} in, with a field `judge` out')
  .argument('[file]', 'default: what is piped in')
  .option('--axis <axis>', 'for lines that name none')
  .option('--judge <profile>')
  .action(async (file: string | undefined, flags: Record<string, unknown>) => {
    await ask('judge', file, flags)
  })

program
  .command('eval')
  .description('evaluate a policy, a reward model or a judge: rows in, a figure a line out')
  .argument('[file]', 'prompts or preference pairs as JSON Lines; default: what is piped in')
  .requiredOption('--target <what>', 'policy, arena, reward_model, probes, certificate or judge')
  .option('--model <id>')
  .option('--models <ids>', 'several policies, with commas', list)
  .option('--format <format>', 'of prompts: chat, xstest, harmbench, mt_bench or text')
  .option('--samples <number>', 'answers to each prompt', Number)
  .option('--against <id>', 'policy: the model to compare with')
  .option('--axis <axis>')
  .option('--judge <profile>')
  .option('--baseline-file <id>', 'uploaded pairs that the counting baselines learn from')
  .option('--budget <number>', 'certificate: score calls', Number)
  .option('--limit <number>', 'rows at most', Number)
  .option('--max-new-tokens <number>', 'of an answer', Number)
  .option('--seed <number>', 'of everything random', Number)
  .option('--options <json>', 'others as JSON (schemas/run.ts, schemas/evaluation.ts)', json)
  .action(async (file: string | undefined, { maxNewTokens, baselineFile, options, ...flags }) => {
    const { evaluate } = await import('./cli/ask.ts')
    const named = {
      max_new_tokens: maxNewTokens as unknown,
      baseline_file: baselineFile as unknown,
    }
    await evaluate(file, { ...(options as object | undefined), ...flags, ...named })
  })

program
  .command('export')
  .description('write a model, adapters merged, as one Hugging Face folder')
  .argument('<model>', 'id of a model, or a role that it plays')
  .argument('<folder>', 'where to put it; must not exist yet')
  .option('--dtype <name>', 'F32, BF16 or F16')
  .option('--max-shard-bytes <number>', 'weights above this are written in shards', Number)
  .action(
    async (model: string, folder: string, flags: { dtype?: string; maxShardBytes?: number }) => {
      const { exportTo } = await import('./cli/export.ts')
      await exportTo(model, resolve(folder), flags)
    },
  )

program
  .command('doctor')
  .description('say what is missing and which device is in use')
  .action(async () => {
    const { doctor } = await import('./cli/doctor.ts')
    await doctor()
  })

program
  .command('openapi')
  .description('write the OpenAPI document of the service')
  .argument('<file>')
  .action(async (file: string) => {
    const { writeOpenApi } = await import('./cli/openapi.ts')
    await writeOpenApi(file)
  })

async function zodMessage(error: unknown): Promise<string | null> {
  const { prettifyError, ZodError } = await import('zod')
  return error instanceof ZodError ? `libra: ${prettifyError(error)}` : null
}

try {
  await program.parseAsync()
} catch (error) {
  console.error(
    error instanceof LibraError
      ? `libra: ${error.message} (${error.code})`
      : ((await zodMessage(error)) ?? error),
  )
  process.exitCode = 1
}
