/** Puts the room together: the one thing that compose calls. */
import type { Database } from '../database/database.ts';
import { type Clock, systemClock } from '../kit/clock.ts';
import type { Log } from '../kit/log.ts';
import { type AccountInfo, addAccount, listAccounts, setDisabled, setPassword } from './accounts.ts';
import { openAnonymous } from './anonymous.ts';
import { authenticator, type Logins } from './authenticator.ts';
import type { AccessConfig, AccessRule, AnonymousMode, FileSource } from './config.ts';
import { openHtpasswd } from './htpasswd.ts';
import { type Identities, openIdentities } from './identities.ts';
import { openPasswords, type Passwords } from './password.ts';
import { type RefreshTokens, refreshTokensIn } from './refresh.ts';
import { type Rights, rightsFrom } from './rights.ts';
import { openSigningKeys, type SigningKeys } from './signing-keys.ts';
import { type Tokens, tokensFrom } from './token.ts';

/** What access stands on. */
export interface AccessParts {
  readonly database: Database;
  /** Whether the server listens on loopback addresses only. */
  readonly loopback: boolean;
  readonly log: Log;
  /** Needed where an htpasswd file is configured. */
  readonly files?: FileSource;
  readonly clock?: Clock;
  /** The password thread; opened, and closed with the room, where it is absent. */
  readonly passwords?: Passwords;
}

/** Accounts through a running server: changes count here at once, elsewhere within ten seconds. */
export interface RunningAccounts {
  add(account: { readonly name: string; readonly password: string }): Promise<void>;
  setPassword(name: string, password: string): Promise<void>;
  setDisabled(name: string, disabled: boolean): Promise<void>;
  list(page?: { readonly after?: string; readonly limit?: number }): Promise<readonly AccountInfo[]>;
}

/** The room. */
export interface AccessRoom {
  readonly access: Rights;
  readonly authenticator: Logins;
  readonly tokens: Tokens;
  readonly refreshTokens: RefreshTokens;
  readonly keys: SigningKeys;
  readonly identities: Identities;
  readonly accounts: RunningAccounts;
  /** What whoever gives no credentials may do, now. */
  anonymousMode(): AnonymousMode;
  /** New rules from a configuration that was loaded again. */
  setRules(rules: readonly AccessRule[] | undefined): void;
  /** To be called about hourly: makes the next signing key when it is due and drops expired refresh tokens. */
  maintain(): Promise<void>;
  /** Stops timers and the thread. */
  close(): Promise<void>;
}

/** Opens it: loads the signing keys, or makes the first, and reads the htpasswd file. */
export async function accessFrom(config: AccessConfig, parts: AccessParts): Promise<AccessRoom> {
  const { database, log } = parts;
  const clock = parts.clock ?? systemClock;
  const passwords = parts.passwords ?? openPasswords();

  if (config.htpasswd !== undefined && parts.files === undefined) {
    throw new Error('An htpasswd file is configured, but there is nothing to read it with.');
  }
  // Opened after the identities, which ask it.
  let htpasswd: Awaited<ReturnType<typeof openHtpasswd>> | undefined;
  const identities = openIdentities(database, () => htpasswd, clock);
  let changed = (): void => identities.changed();
  if (config.htpasswd !== undefined) {
    htpasswd = await openHtpasswd(config.htpasswd, parts.files!, log, () => changed());
  }
  await identities.countAccounts();

  const anonymous = await openAnonymous(
    config.anonymous,
    parts.loopback,
    async () => htpasswd?.mayHaveUsers() === true || (await identities.countAccounts()) > 0,
    log,
  );
  changed = () => {
    identities.changed();
    void anonymous.refresh();
  };

  // Another server changed accounts: nothing that is remembered of them is believed any more.
  const forget = database.hints?.on('access', () => {
    identities.changed();
    identities
      .countAccounts()
      .then(() => anonymous.refresh())
      .catch(() => undefined);
  });

  const keys = await openSigningKeys(database, clock);
  const tokens = tokensFrom(
    keys,
    {
      issuer: config.tokens?.issuer ?? 'longshore',
      service: config.tokens?.service ?? 'longshore',
      lifetimeSeconds: Math.max(60, config.tokens?.lifetimeSeconds ?? 300),
    },
    clock,
  );
  const refreshTokens = refreshTokensIn(database, identities, clock);
  const access = rightsFrom(config.rules, anonymous.mode);
  const tools = { clock, hash: (password: string) => passwords.hash(password) };

  return {
    access,
    authenticator: authenticator({
      identities,
      passwords,
      tokens,
      refreshTokens,
      clock,
      certificates: config.certificates ?? false,
    }),
    tokens,
    refreshTokens,
    keys,
    identities,
    accounts: {
      add: async (account) => {
        await addAccount(database, account, tools);
        identities.changed();
        await identities.countAccounts();
        await anonymous.refresh();
      },
      setPassword: async (name, password) => {
        await setPassword(database, name, password, tools);
        identities.changed();
      },
      setDisabled: async (name, disabled) => {
        await setDisabled(database, name, disabled);
        identities.changed();
      },
      list: (page) => listAccounts(database, page),
    },
    anonymousMode: anonymous.mode,
    setRules: access.setRules,
    maintain: async () => {
      await keys.rotateIfDue(clock.now());
      while ((await refreshTokens.expire()) >= 1000);
    },
    close: async () => {
      forget?.();
      anonymous.close();
      htpasswd?.close();
      if (parts.passwords === undefined) await passwords.close();
    },
  };
}
