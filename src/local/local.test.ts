/** The store over files and SQLite keeps the contract of the seam. */
import { registryContract } from '../registry/registry.contract.ts';
import { freshLocal } from './fresh.testing.ts';

registryContract('local (files, SQLite)', freshLocal);
