/** Advisory locks of PostgreSQL: any numbers that no other program uses in this database. */

/** Held while the schema is changed. The same number as in `migrate.ts`. */
export const MIGRATION_LOCK = 7_235_421_106;
