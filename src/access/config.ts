/** What the configuration says about access, as plain data, and how this room reads a file it names. */

/** What whoever gives no credentials may do. `push` includes `delete`: who owns the laptop may clean up. */
export type AnonymousMode = 'none' | 'pull' | 'push';

/**
 * What a rule can grant. `purge` ends the undelete window early, `hold` protects from deletion and lifts that again,
 * `admin` is all of them, and with `**` among the repositories also what concerns the whole registry. Nobody has these
 * three without a rule.
 */
export type RuleAction = 'pull' | 'push' | 'delete' | 'purge' | 'hold' | 'admin';

/** Grants; there are no denials. Once one rule exists, only what rules grant is allowed to people. */
export interface AccessRule {
  /** Login names, or `*` for everyone who signed in. */
  readonly users: readonly string[];
  /** Globs of `kit/glob.ts`: `*` within one path part, `**` across. */
  readonly repositories: readonly string[];
  readonly actions: readonly RuleAction[];
}

/** The `access` section. All of it may be absent. */
export interface AccessConfig {
  /** Absent: `push` on a loopback address while no user exists, otherwise `none` (decisions.md 41). */
  readonly anonymous?: AnonymousMode | undefined;
  /** Path of an htpasswd file with bcrypt or argon2id lines, read again when it changes. */
  readonly htpasswd?: string | undefined;
  /** Absent: every account may pull, push and delete everywhere. Given, even empty: only what is granted. */
  readonly rules?: readonly AccessRule[] | undefined;
  readonly tokens?:
    | {
        /** 60 to 86,400; 300 where absent. */
        readonly lifetimeSeconds?: number | undefined;
        /** `iss`; `longshore` where absent. */
        readonly issuer?: string | undefined;
        /** `aud`, and the challenge's service; `longshore` where absent. */
        readonly service?: string | undefined;
      }
    | undefined;
  /** Whether a verified client certificate's CN names the account that asks. */
  readonly certificates?: boolean | undefined;
}

/** Reads the files that the configuration names: the file system belongs to another room. */
export interface FileSource {
  /** A text that differs after every change of the file (inode, size, times); undefined: not there. */
  stamp(path: string): Promise<string | undefined>;
  /** The whole file; undefined where it is not there or is larger than `limit` bytes. */
  read(path: string, limit: number): Promise<Uint8Array | undefined>;
}
