/** How an event's row is written; the same for both databases. */

/** (uid, type, repository id or null, payload as JSON, wall milliseconds) */
export const INSERT_OUTBOX = 'insert into outbox (uid, type, repository_id, payload, at) values (?, ?, ?, ?, ?)';
