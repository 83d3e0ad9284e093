import { setPriority } from 'node:os'

/**
 * Lowers the priority of a training engine. Linux keeps one per thread and new threads inherit it, so this must be
 * imported before TensorFlow starts its pool: lowered from outside, the main thread alone would step back.
 */
if (process.argv[2] === 'training') setPriority(10)
