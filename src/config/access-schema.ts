/** The `access` section: who may do what. What it means is in `access/`; this is what may be written. */
import * as z from 'zod';

const rule = z.strictObject({
  users: z
    .array(z.string().min(1).max(256))
    .min(1)
    .max(10_000)
    .describe('Login names, or * for everyone who signed in.'),
  repositories: z
    .array(z.string().min(1).max(255))
    .min(1)
    .max(10_000)
    .describe('Patterns: * within one part of a name, ** across parts.'),
  actions: z
    .array(z.enum(['pull', 'push', 'delete', 'purge', 'hold', 'admin']))
    .min(1)
    .max(6)
    .describe(
      'What is granted. purge ends the undelete window early, hold protects from deletion; admin is all of them, and for ** also what concerns the whole registry.',
    ),
});

const tokens = z.strictObject({
  lifetimeSeconds: z.int().min(60).max(86_400).default(300).describe('How long a token is good.'),
  issuer: z.string().min(1).max(255).optional().describe('The issuer in tokens. Absent: longshore.'),
  service: z.string().min(1).max(255).optional().describe('The service that tokens are for. Absent: longshore.'),
});

/** The section's schema. */
export const access = z.strictObject({
  anonymous: z
    .enum(['none', 'pull', 'push'])
    .optional()
    .describe('What whoever gives no credentials may do. Absent: push on loopback while no user exists, else none.'),
  htpasswd: z
    .string()
    .min(1)
    .optional()
    .describe('An htpasswd file with bcrypt or argon2id lines, read again when it changes.'),
  rules: z
    .array(rule)
    .max(10_000)
    .optional()
    .describe(
      'Grants of pull, push, delete, purge, hold or admin. Absent: every account may pull, push and delete everywhere. Given: only what they grant.',
    ),
  tokens: tokens.prefault({}).describe('Tokens of the token endpoint.'),
  certificates: z
    .boolean()
    .optional()
    .describe('Whether the common name of a verified client certificate names the account.'),
});
