import { join } from 'node:path'
import { starterFolder } from '../src/config.ts'

const files = (...adapters: string[]) => ({
  base: join(starterFolder, 'base'),
  adapters: adapters.map((name) => join(starterFolder, name)),
})

/** The starter models as files, for tests that go to the engine directly. */
export const starterRoles = () => ({
  policy: files('sft', 'policy'),
  judge: { base: join(starterFolder, 'judge'), adapters: [] },
  /** what adapters are trained on */
  base: files(),
  /** of another size and seed */
  twin: { base: join(starterFolder, 'twin'), adapters: [] },
  helpfulness: files('sft', 'helpfulness'),
  safety: files('sft', 'safety'),
})
