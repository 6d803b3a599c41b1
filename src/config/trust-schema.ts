/** What watches over stored bytes: the scrub, and where damaged ones are healed from. */
import * as z from 'zod';
import { otherPlace } from './storage-schema.ts';
import { duration, secret, webAddress } from './values.ts';

/** The section `scrub`. */
export const scrub = z.strictObject({
  enabled: z.boolean().default(true).describe('Read and hash all stored bytes again, in the background.'),
  rate: z.int().min(1).max(100_000).default(16).describe('How fast, in MiB per second, by the whole installation.'),
  every: duration({ least: 60_000, most: 3_650 * 86_400_000 })
    .prefault('30d')
    .describe('A round begins this long after the one before has begun.'),
});

const registry = z.strictObject({
  url: webAddress().describe('The registry’s address, as in https://registry.example.org.'),
  repository: z
    .string()
    .max(255)
    .optional()
    .describe('The repository that has all blobs. Absent: the one of the same name as here.'),
  username: z.string().min(1).optional().describe('Absent: nobody.'),
  password: secret().optional().describe('With username.'),
  tokenHosts: z
    .array(z.string().min(1).max(255))
    .max(8)
    .default([])
    .describe('Hosts of token services, as in auth.example.org, that may be sent the password besides its own.'),
  allowPrivateAddresses: z
    .boolean()
    .default(false)
    .describe('Whether it may be on this machine or in a private network.'),
});

/** The section `heal`. */
export const heal = z.strictObject({
  storages: z
    .array(otherPlace)
    .max(8)
    .default([])
    .describe('Other storages of the same layout: a backup’s, or a replica of the bucket.'),
  registries: z.array(registry).max(8).default([]).describe('Registries that have the same images.'),
});
