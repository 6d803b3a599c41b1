/**
 * A disk with a page cache, as far as POSIX promises anything. What was synced is there after a power cut; of what was
 * not, any part may be: single pages and sectors of a write, the new size of a file with or without the bytes, any
 * entry of any folder in any order. fsync of a file makes its bytes and size sure, not its name; fsync of a folder the
 * names in it. A rename is seen whole or not at all until one of its folders is synced.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import type { TraceEvent } from './trace.ts';

/** A page of the cache, and a sector of the disk: the smallest part that is written whole. */
const PAGE = 4096;
const SECTOR = 512;

interface DataOp {
  readonly at: number;
  readonly offset: number;
  readonly bytes: Buffer;
  /** The file's size afterwards, where it changed. */
  readonly size: number | undefined;
}

/** A file or a folder, whatever its names are. */
export interface Inode {
  readonly id: number;
  /** The name it was made under; for messages. */
  readonly name: string;
  readonly folder: boolean;
  /** What a power cut cannot take. */
  base: Buffer;
  version: number;
  size: number;
  pending: DataOp[];
  readonly entries: Map<string, Inode>;
  readonly durable: Map<string, Inode>;
}

interface EntryPart {
  readonly folder: Inode;
  readonly name: string;
  readonly to: Inode | undefined;
}

interface EntryOp {
  readonly at: number;
  readonly what: string;
  parts: EntryPart[];
}

/** What a power cut may take or leave by itself. */
export type Unit =
  | { readonly kind: 'entry'; readonly op: EntryOp; readonly what: string }
  | { readonly kind: 'size'; readonly inode: Inode; readonly op: DataOp; readonly what: string }
  | {
      readonly kind: 'page';
      readonly inode: Inode;
      readonly op: DataOp;
      readonly from: number;
      readonly to: number;
      readonly what: string;
    };

/** A state after a cut: which units it left. `torn`: sectors of a page that it took all the same. */
export interface Left {
  readonly units: ReadonlySet<Unit>;
  readonly torn?: ReadonlyMap<Unit, (sector: number) => boolean>;
}

/** The model. `root` stands for the folder that is there for sure; paths of events are absolute. */
export class DiskModel {
  readonly #root: string;
  readonly #top: Inode;
  readonly #fds = new Map<number, Inode>();
  #pendingEntries: EntryOp[] = [];
  #inodes: Inode[] = [];

  constructor(root: string) {
    this.#root = root;
    this.#top = this.#inode(root, true);
  }

  #inode(path: string, folder: boolean): Inode {
    const inode: Inode = {
      id: this.#inodes.length,
      name: relative(this.#root, path),
      folder,
      base: Buffer.alloc(0),
      version: 0,
      size: 0,
      pending: [],
      entries: new Map(),
      durable: new Map(),
    };
    this.#inodes.push(inode);
    return inode;
  }

  #find(path: string): Inode | undefined {
    let at: Inode | undefined = this.#top;
    const names = relative(this.#root, path).split('/');
    for (const name of names) if (name !== '') at = at?.entries.get(name);
    return at;
  }

  #part(path: string, to: Inode | undefined): EntryPart {
    const folder = this.#find(dirname(path));
    if (folder === undefined) throw new Error(`${path}: no such folder`);
    return { folder, name: path.slice(path.lastIndexOf('/') + 1), to };
  }

  #change(event: TraceEvent, what: string, parts: EntryPart[]): void {
    for (const { folder, name, to } of parts) {
      if (to === undefined) folder.entries.delete(name);
      else folder.entries.set(name, to);
    }
    this.#pendingEntries.push({ at: event.end, what, parts });
  }

  #file(fd: number): Inode {
    const inode = this.#fds.get(fd);
    if (inode === undefined) throw new Error(`descriptor ${fd} is not open`);
    return inode;
  }

  /** Does what happened. */
  apply(event: TraceEvent): void {
    const short = (path: string): string => relative(this.#root, path);
    switch (event.kind) {
      case 'process':
        this.#fds.clear();
        break;
      case 'open': {
        let inode = this.#find(event.path);
        if (inode === undefined) {
          if (!event.create) throw new Error(`${event.path}: opened and not there`);
          inode = this.#inode(event.path, false);
          this.#change(event, `create ${short(event.path)}`, [this.#part(event.path, inode)]);
        } else if (event.truncate) this.#resize(inode, 0, event);
        this.#fds.set(event.fd, inode);
        break;
      }
      case 'close':
        this.#fds.delete(event.fd);
        break;
      case 'write': {
        const inode = this.#file(event.fd);
        const end = event.offset + event.bytes.length;
        const size = end > inode.size ? end : undefined;
        inode.pending.push({ at: event.end, offset: event.offset, bytes: event.bytes, size });
        inode.size = size ?? inode.size;
        break;
      }
      case 'size':
        this.#resize(this.#file(event.fd), event.size, event);
        break;
      case 'sync':
        this.#sync(this.#file(event.fd), event.begin);
        break;
      case 'link':
        this.#change(event, `link ${short(event.to)}`, [this.#part(event.to, this.#there(event.path))]);
        break;
      case 'rename': {
        const inode = this.#there(event.path);
        const parts = [this.#part(event.to, inode), this.#part(event.path, undefined)];
        this.#change(event, `rename ${short(event.path)} to ${short(event.to)}`, parts);
        break;
      }
      case 'unlink':
        // Sockets and the like are not followed.
        if (this.#find(event.path) === undefined) break;
        this.#change(event, `unlink ${short(event.path)}`, [this.#part(event.path, undefined)]);
        break;
      case 'rmdir':
        this.#change(event, `rmdir ${short(event.path)}`, [this.#part(event.path, undefined)]);
        break;
      case 'mkdir':
        this.#change(event, `mkdir ${short(event.path)}`, [this.#part(event.path, this.#inode(event.path, true))]);
        break;
      case 'answer':
    }
  }

  #there(path: string): Inode {
    const inode = this.#find(path);
    if (inode === undefined) throw new Error(`${path} is not there`);
    return inode;
  }

  #resize(inode: Inode, size: number, event: TraceEvent): void {
    if (inode.size === size) return;
    inode.pending.push({ at: event.end, offset: size, bytes: Buffer.alloc(0), size });
    inode.size = size;
  }

  /** What had ended before the sync began is sure now. */
  #sync(inode: Inode, begin: number): void {
    if (inode.folder) {
      for (const op of this.#pendingEntries) {
        if (op.at >= begin) continue;
        for (const { name, to } of op.parts.filter(({ folder }) => folder === inode)) {
          if (to === undefined) inode.durable.delete(name);
          else inode.durable.set(name, to);
        }
        op.parts = op.parts.filter(({ folder }) => folder !== inode);
      }
      this.#pendingEntries = this.#pendingEntries.filter((op) => op.parts.length > 0);
      return;
    }
    const sure = inode.pending.filter((op) => op.at < begin);
    if (sure.length === 0) return;
    inode.base = contentOf(inode, sure, () => true);
    inode.pending = inode.pending.filter((op) => op.at >= begin);
    inode.version += 1;
  }

  /** Everything that a cut now may take or leave. */
  units(): Unit[] {
    const units: Unit[] = this.#pendingEntries.map((op) => ({ kind: 'entry', op, what: op.what }));
    for (const inode of this.#inodes) {
      for (const op of inode.pending) {
        if (op.size !== undefined) units.push({ kind: 'size', inode, op, what: `size ${op.size} of ${inode.name}` });
        for (let from = op.offset; from < op.offset + op.bytes.length; ) {
          const to = Math.min((Math.floor(from / PAGE) + 1) * PAGE, op.offset + op.bytes.length);
          units.push({ kind: 'page', inode, op, from, to, what: `bytes ${from}-${to} of ${inode.name}` });
          from = to;
        }
      }
    }
    return units;
  }

  /** The files of a state, by path below the root; a folder's content is undefined. */
  #tree(left: Left): Map<string, Inode> {
    const folders = new Map<Inode, Map<string, Inode>>();
    const entriesOf = (folder: Inode): Map<string, Inode> => {
      let entries = folders.get(folder);
      if (entries === undefined) folders.set(folder, (entries = new Map(folder.durable)));
      return entries;
    };
    const kept = new Set([...left.units].map((unit) => unit.op as unknown));
    for (const op of this.#pendingEntries) {
      if (!kept.has(op)) continue;
      for (const { folder, name, to } of op.parts) {
        if (to === undefined) entriesOf(folder).delete(name);
        else entriesOf(folder).set(name, to);
      }
    }
    const tree = new Map<string, Inode>();
    const walk = (folder: Inode, path: string): void => {
      for (const [name, inode] of entriesOf(folder)) {
        tree.set(path + name, inode);
        if (inode.folder) walk(inode, `${path}${name}/`);
      }
    };
    walk(this.#top, '');
    return tree;
  }

  /** The same for states that are the same. */
  key(left: Left): string {
    const hash = createHash('sha1');
    const chosen = new Map<Inode, string>();
    for (const unit of left.units) {
      if (unit.kind === 'entry') continue;
      let torn = '';
      const tear = left.torn?.get(unit);
      if (tear !== undefined && unit.kind === 'page')
        torn = sectorsOf(unit)
          .map((one) => (tear(one) ? 1 : 0))
          .join('');
      const part = unit.kind === 'size' ? `s${unit.op.at}` : `p${unit.op.at}.${unit.from}${torn}`;
      chosen.set(unit.inode, `${chosen.get(unit.inode) ?? ''},${part}`);
    }
    for (const [path, inode] of this.#tree(left)) {
      hash.update(`${path}\0${inode.id}.${inode.version}${chosen.get(inode) ?? ''}\n`);
    }
    return hash.digest('base64');
  }

  /** Writes the state into an empty folder. */
  materialise(left: Left, folder: string): void {
    const has = (unit: { op: DataOp; from: number | undefined }): Unit | undefined =>
      index.get(unit.op)?.get(unit.from);
    const index = new Map<DataOp, Map<number | undefined, Unit>>();
    for (const unit of left.units) {
      if (unit.kind === 'entry') continue;
      let own = index.get(unit.op);
      if (own === undefined) index.set(unit.op, (own = new Map()));
      own.set(unit.kind === 'size' ? undefined : unit.from, unit);
    }
    for (const [path, inode] of this.#tree(left)) {
      const target = join(folder, path);
      if (inode.folder) mkdirSync(target, { mode: 0o700 });
      else {
        const content = contentOf(inode, inode.pending, (op, from, sector) => {
          const unit = has({ op, from });
          if (unit === undefined) return false;
          return sector === undefined || left.torn?.get(unit)?.(sector) !== true;
        });
        writeFileSync(target, content, { mode: 0o600 });
      }
    }
  }
}

const sectorsOf = ({ from, to }: { from: number; to: number }): number[] =>
  Array.from({ length: Math.ceil(to / SECTOR) - Math.floor(from / SECTOR) }, (_, n) => Math.floor(from / SECTOR) + n);

/** The file's bytes after some of the operations. `left`: of an operation its size (no `from`), or a sector of a page. */
function contentOf(
  inode: Inode,
  ops: readonly DataOp[],
  left: (op: DataOp, from: number | undefined, sector?: number) => boolean,
): Buffer {
  if (ops.length === 0) return inode.base;
  let size = inode.base.length;
  let most = size;
  for (const op of ops) most = Math.max(most, op.offset + op.bytes.length, op.size ?? 0);
  const content = Buffer.alloc(most);
  inode.base.copy(content);
  for (const op of ops) {
    if (op.size !== undefined && left(op, undefined)) {
      if (op.size < size) content.fill(0, op.size, size);
      size = op.size;
    }
    const end = op.offset + op.bytes.length;
    for (let from = op.offset; from < end; ) {
      const to = Math.min((Math.floor(from / PAGE) + 1) * PAGE, end);
      for (let at = from; at < to; ) {
        const next = Math.min((Math.floor(at / SECTOR) + 1) * SECTOR, to);
        if (left(op, from, Math.floor(at / SECTOR))) op.bytes.copy(content, at, at - op.offset, next - op.offset);
        at = next;
      }
      from = to;
    }
  }
  return content.subarray(0, size);
}
