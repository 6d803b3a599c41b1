/**
 * Immutable tags, with exceptions by pattern. The rules come from the configuration; what they mean is enforced by a
 * guard inside the transaction of whoever writes, so no race, job or other door goes round them. The specimen of a
 * feature: copy this folder to begin another.
 */
import type { FeatureModule } from '../feature.ts';
import { type ImmutabilityConfig, immutabilityConfig } from './config.ts';
import { guardsOf } from './rules.ts';

/** The module for `features.ts`. */
export const immutability: FeatureModule<ImmutabilityConfig> = {
  name: 'immutability',
  config: immutabilityConfig,
  create: (_core, { rules }) => ({
    name: 'immutability',
    ...(rules.length === 0 ? {} : { guards: { guardsFor: (_call, change) => guardsOf(rules, change) } }),
  }),
};
