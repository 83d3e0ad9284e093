import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { starterFolder } from '../config.ts'
import type { Engine, ModelFiles, ModelInfo } from '../engine/engine.ts'
import { LibraError } from '../errors.ts'
import type { Message } from '../schemas/chat.ts'
import { ROLE_NAMES } from '../schemas/model.ts'
import type { RoleName } from '../schemas/model.ts'
import type { AuditRow, CheckRow, ModelRow, Store } from '../store/store.ts'
import { readCard } from '../weights/folder.ts'

/** Labels nothing that anything learns from: the guard of loops on the starter world asks it. */
export const STARTER_AUDIT_JUDGE = 'starter-audit-judge'

/** Of another size and seed than the base: twins of a loop's reward models begin with it. */
export const STARTER_TWIN = 'starter-twin'

/** The models that come with the project, and the roles that they play until told otherwise. */
const STARTER: readonly Omit<ModelRow, 'createdAt' | 'run'>[] = [
  { id: 'starter-base', kind: 'base', base: 'base', adapters: [], axis: null },
  { id: 'starter-judge', kind: 'judge', base: 'judge', adapters: [], axis: null },
  { id: STARTER_AUDIT_JUDGE, kind: 'judge', base: 'audit-judge', adapters: [], axis: null },
  { id: STARTER_TWIN, kind: 'base', base: 'twin', adapters: [], axis: null },
  { id: 'starter-sft', kind: 'policy', base: 'base', adapters: ['sft'], axis: null },
  { id: 'starter-policy', kind: 'policy', base: 'base', adapters: ['sft', 'policy'], axis: null },
  {
    id: 'starter-helpfulness',
    kind: 'reward_model',
    base: 'base',
    adapters: ['sft', 'helpfulness'],
    axis: 'helpfulness',
  },
  {
    id: 'starter-safety',
    kind: 'reward_model',
    base: 'base',
    adapters: ['sft', 'safety'],
    axis: 'safety',
  },
]

/** The folders that these models are in. */
export const STARTER_FOLDERS: readonly string[] = [
  ...new Set(STARTER.flatMap(({ base, adapters }) => [base, ...adapters])),
]

const STARTER_ROLES: Record<RoleName, string> = {
  policy: 'starter-policy',
  reference: 'starter-sft',
  helpfulness: 'starter-helpfulness',
  safety: 'starter-safety',
  judge: 'starter-judge',
}

export const filesOf = ({ base, adapters }: Pick<ModelRow, 'base' | 'adapters'>): ModelFiles => ({
  base,
  adapters,
})

/** Puts the starter models into the catalogue, where this installation has them now, and fills empty roles. */
export async function registerStarter(store: Store, folder = starterFolder): Promise<void> {
  for (const model of STARTER) {
    const base = join(folder, model.base)
    const adapters = model.adapters.map((name) => join(folder, name))
    if ((await store.models.get(model.id)) === null)
      await store.models.insert([{ ...model, base, adapters, run: null, createdAt: Date.now() }])
    else await store.models.update(model.id, { base, adapters })
  }
  if ((await store.judges.get(STARTER_AUDIT_JUDGE)) === null) {
    const profile = { kind: 'local' as const, model: STARTER_AUDIT_JUDGE, createdAt: Date.now() }
    await store.judges.insert([{ id: STARTER_AUDIT_JUDGE, ...profile }])
  }
  const roles = await store.roles()
  await store.setRoles({ ...STARTER_ROLES, ...roles })
  for (const audit of await readStarterAudits())
    if ((await store.audits.get(audit.id)) === null) await store.audits.insert([audit])
  for (const check of await readStarterChecks())
    if ((await store.rewardChecks.get(check.id)) === null) await store.rewardChecks.insert([check])
}

/** The starter judge's own audits, as `npm run judge:audit -- --write <file>` left them. */
const AUDITS = join(starterFolder, '..', 'judge-audit.json')
export const readStarterAudits = async (): Promise<AuditRow[]> =>
  JSON.parse(await readFile(AUDITS, 'utf8')) as AuditRow[]

/** The probes of the starter reward models, as `npm run starter:build` left them. */
export const STARTER_CHECKS = 'reward-checks.json'
export const readStarterChecks = async (): Promise<CheckRow[]> =>
  JSON.parse(await readFile(join(starterFolder, STARTER_CHECKS), 'utf8')) as CheckRow[]

/** A model by its id, or by the role it plays; `field` is where it is named. Throws `model_not_found`. */
export async function findModel(store: Store, ref: string, field = 'model'): Promise<ModelRow> {
  const id = (await store.roles())[ref as RoleName] ?? ref
  const model = await store.models.get(id)
  if (model === null)
    throw new LibraError(
      'model_not_found',
      `no model ${JSON.stringify(ref)}: give the id of one (GET /v1/models) or a role (${ROLE_NAMES.join(', ')})`,
      { details: { field } },
    )
  return model
}

/** A model that writes answers, by its id or role; `field` is where it is named. Throws `model_not_found`, `wrong_model_kind`. */
export async function findPolicy(store: Store, ref: string, field: string): Promise<ModelRow> {
  const model = await findModel(store, ref, field)
  if (model.kind === 'reward_model')
    throw new LibraError('wrong_model_kind', `${model.id} is a reward model, a policy is needed`, {
      details: { field },
    })
  return model
}

/**
 * The folder of a model that training starts from bare. Throws `model_not_found`, and `wrong_model_kind` naming the
 * field where it has adapters, which would be left behind, or is a reward model.
 */
export async function findBase(store: Store, ref: string, field: string): Promise<string> {
  const { id, kind, base, adapters } = await findModel(store, ref, field)
  const is =
    kind === 'reward_model' ? 'is a reward model' : adapters.length > 0 ? 'has an adapter' : null
  if (is === null) return base
  throw new LibraError(
    'wrong_model_kind',
    `${field}: ${id} ${is}; give a model without adapters that writes answers, as starter-base`,
    { details: { field } },
  )
}

/**
 * The answers that a helpfulness model is held against, by default the one that plays the role; a new version is held
 * against the same, so that a score means what it meant. Null where it has none, or there is no such model. Throws
 * `model_not_found` where one is named.
 */
export async function frozenReferences(
  store: Store,
  named?: string | undefined,
): Promise<readonly Message[][] | null> {
  const { helpfulness = null } = await store.roles()
  const ref = named ?? helpfulness
  if (ref === null) return null
  const { adapters, base } = await findModel(store, ref)
  const calibration = (await readCard(adapters.at(-1) ?? base))?.calibration
  return calibration?.kind === 'win_rate' ? (calibration.references ?? null) : null
}

export async function describeModel(
  engine: Engine,
  model: ModelRow,
): Promise<ModelRow & { info: ModelInfo }> {
  return { ...model, info: await engine.describe(filesOf(model)) }
}

/** Gives roles to models after checking that each can play its part: a reward model has a score head, and its axis where it is known. */
export async function assignRoles(
  store: Store,
  engine: Engine,
  change: Partial<Record<RoleName, string>>,
): Promise<Partial<Record<RoleName, string>>> {
  const ids: Partial<Record<RoleName, string>> = {}
  for (const [role, ref] of Object.entries(change)) {
    const model = await findModel(store, ref)
    ids[role as RoleName] = model.id
    const { hasScoreHead } = await engine.describe(filesOf(model))
    const wantsHead = role === 'helpfulness' || role === 'safety'
    if (wantsHead !== hasScoreHead)
      throw new LibraError(
        'wrong_model_kind',
        `${role}: ${model.id} ${hasScoreHead ? 'is a reward model, a language model is needed' : 'has no score head, a reward model is needed'}`,
        { details: { field: role } },
      )
    if (wantsHead && model.axis !== null && model.axis !== role)
      throw new LibraError(
        'wrong_model_kind',
        `${role}: ${model.id} is a reward model of ${model.axis}, one of ${role} is needed`,
        { details: { field: role } },
      )
  }
  await store.setRoles(ids)
  return store.roles()
}

/** Removes a model from the catalogue; its files stay with the run that made them. Throws `model_in_use`. */
export async function removeModel(store: Store, id: string): Promise<void> {
  const model = await findModel(store, id)
  const role = Object.entries(await store.roles()).find(([, of]) => of === model.id)?.[0]
  if (role !== undefined)
    throw new LibraError(
      'model_in_use',
      `${model.id} plays ${role}: give the role to another model first`,
    )
  await store.models.remove(model.id)
}
