/** The features there are. A list, no logic. */
import type { FeatureModule } from './features/feature.ts';
import { immutability } from './features/immutability/feature.ts';

// biome-ignore lint/suspicious/noExplicitAny: a list of features of many configurations; each parses its own.
export const FEATURES: readonly FeatureModule<any>[] = [immutability];
