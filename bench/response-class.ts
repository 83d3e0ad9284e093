import { join } from 'node:path'
import { starterFolder } from '../src/config.ts'
import { spawnEngine } from '../src/engine/process/spawn.ts'
import { classify, RESPONSE_CLASSES } from '../src/evaluation/response-class.ts'
import { answerAndGrade } from '../src/starter/evaluate.ts'
import { prompts } from '../src/starter/world.ts'

/**
 * How often the classes that answers get from their text are those that gold gives, by language: the starter SFT
 * model's answers to 600 test prompts, sampled from seed 1. `node --import tsx bench/response-class.ts`
 */
const engine = await spawnEngine()
const model = { base: join(starterFolder, 'base'), adapters: [join(starterFolder, 'sft')] }
const graded = await answerAndGrade(engine, model, prompts('test', 1, 600), 40, 1, () => {})
await engine.close()
for (const language of ['zh', 'en'] as const) {
  const rows = graded.filter(({ prompt }) => prompt.language === language)
  // gold's `ended` is not in what it returns: an answer of 40 tokens is cut off rarely enough to be left out here
  const pairs = rows.map(({ answer, gold }) => [gold.class, classify(answer, true)] as const)
  const right = pairs.filter(([truth, said]) => truth === said).length
  const refusals = (cls: string): boolean => cls.startsWith('refuse')
  const alike = pairs.filter(([truth, said]) => refusals(truth) === refusals(said)).length
  console.log(
    `\n${language}: ${rows.length} answers; the same class ${(right / rows.length).toFixed(3)}; refusal or not ${(alike / rows.length).toFixed(3)}\n`,
  )
  console.log(`| gold \\ text | ${RESPONSE_CLASSES.join(' | ')} |\n| --- |${' --- |'.repeat(5)}`)
  for (const truth of RESPONSE_CLASSES)
    console.log(
      `| ${truth} | ${RESPONSE_CLASSES.map((said) => pairs.filter(([t, s]) => t === truth && s === said).length).join(' | ')} |`,
    )
}
