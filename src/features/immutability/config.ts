/** The `immutability` section. */
import * as z from 'zod';

const pattern = z.string().min(1).max(256);

/** One rule: which tags of which repositories stay where they are. */
const rule = z.strictObject({
  name: z.string().min(1).max(100).describe('What the refusal calls the rule.'),
  repositories: z
    .array(pattern)
    .min(1)
    .max(1000)
    .default(['**'])
    .describe('Repositories it holds in: "*" within one part of a name, "**" across parts.'),
  tags: z.array(pattern).min(1).max(1000).default(['*']).describe('Tags that may neither be moved nor deleted.'),
  except: z.array(pattern).max(1000).default([]).describe('Tags that may all the same, such as "latest" or "*-dev".'),
});

/** The section. */
export const immutabilityConfig = z.strictObject({
  rules: z.array(rule).max(1000).default([]).describe('Rules for immutable tags; every rule that matches holds.'),
});

/** The section, checked. */
export type ImmutabilityConfig = z.output<typeof immutabilityConfig>;
