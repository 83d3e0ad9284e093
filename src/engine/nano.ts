/** The nano world and its training, for those who study it (services/frontier-study.ts). */
export { BETA, COMBINERS, METHODS, optionsOf, trainNano } from '../training/nano/train.ts'
export type { Method, NanoCombiner } from '../training/nano/train.ts'
export { ANSWERS, heldBack, nanoWorld, PROMPTS, rewardsBy } from '../training/nano/world.ts'
