/**
 * A folder where runtimes look for plugins, and our programs in it. Its subfolder .tsnet says what is ours, leads the programs to node and
 * to their bundles, and keeps what they took the place of. A runtime finds a whole program under each name at any moment.
 */
import { createHash } from 'node:crypto'
import {
  closeSync,
  copyFileSync,
  fsyncSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { isObject, type JsonObject, quote } from '../cni/json.ts'
import { CNI_CODE, isErrno, TsnetError } from '../error.ts'
import { lockFile } from '../sys/lock.ts'

/** What has become of a file. */
export interface Change {
  readonly path: string
  readonly status: 'installed' | 'updated' | 'replaced' | 'kept' | 'removed' | 'restored'
}

export interface Installation {
  /** Where runtimes look. */
  readonly binFolder: string
  /** dist/bin. */
  readonly programs: string
  /** The absolute path of node. */
  readonly node: string
  readonly types: readonly string[]
  /** Of these, one that is somebody else's stays as it is. */
  readonly optional: readonly string[]
  /** Whether somebody else's program may be replaced; it is kept, and comes back. */
  readonly force: boolean
  /** Network definitions to write, by path. */
  readonly definitions: Readonly<Record<string, string>>
}

/** SHA-256 of each file that is ours: several while it is being replaced. */
type Digests = Readonly<Record<string, readonly string[]>>

interface Manifest {
  readonly plugins: Digests
  readonly definitions: Digests
}

const EMPTY: Manifest = { plugins: {}, definitions: {} }

/**
 * @returns What was done, in order.
 * @throws TsnetError TSNET_FOREIGN_PROGRAM, before anything is changed, for somebody else's program; TSNET_INSTALL
 */
export function install(installation: Installation): readonly Change[] {
  const { binFolder, programs, node, optional, definitions } = installation
  return guarded('install into', binFolder, () => {
    mkdirSync(binFolder, { recursive: true })
    for (const folder of ['.tsnet', '.tsnet/kept']) ensureFolder(join(binFolder, folder))
    using _lock = lockFile(join(binFolder, '.tsnet', 'lock'))
    const former = readManifest(binFolder)
    const foreign = installation.types.filter((type) => isForeign(type, installation, former))
    const types = installation.types.filter((type) => installation.force || !foreign.includes(type) || !optional.includes(type))
    refuseForeign(
      types.filter((type) => foreign.includes(type)),
      installation,
    )
    const digests = types.map((type) => [type, [digestOf(join(programs, type)) ?? '']] as const)
    const written = Object.entries(definitions).map(([path, text]) => [path, [digest(text)]] as const)
    const current = { plugins: Object.fromEntries(digests), definitions: Object.fromEntries(written) }
    // A program that is killed here has said more than is true: what is somebody else's is found out by its digest.
    writeManifest(binFolder, { plugins: union(former.plugins, current.plugins), definitions: union(former.definitions, current.definitions) })
    link(dirname(programs), join(binFolder, '.tsnet', 'dist'))
    link(node, join(binFolder, '.tsnet', 'node'))
    const changes = types.map((type) => put(type, { ...installation, former, foreign: foreign.includes(type) }))
    for (const [path, text] of Object.entries(definitions)) writeWhole(path, text)
    writeManifest(binFolder, { plugins: { ...former.plugins, ...current.plugins }, definitions: { ...former.definitions, ...current.definitions } })
    const kept = installation.types.filter((type) => !types.includes(type)).map((type) => ({ path: join(binFolder, type), status: 'kept' }) as const)
    return [...changes, ...kept, ...Object.keys(definitions).map((path) => ({ path, status: 'installed' }) as const)]
  })
}

/**
 * Takes away what install() has put there, unless somebody has changed it since, and puts back what was there before.
 * @throws TsnetError TSNET_NOT_INSTALLED; TSNET_INSTALL
 */
export function uninstall(binFolder: string): readonly Change[] {
  return guarded('uninstall from', binFolder, () => {
    const own = join(binFolder, '.tsnet')
    if (!exists(own)) {
      throw new TsnetError('TSNET_NOT_INSTALLED', `Cannot uninstall from ${quote(binFolder)}: tsnet is not installed there`, {
        hint: '--bin-dir says where it is',
      })
    }
    using _lock = lockFile(join(own, 'lock'))
    const { plugins, definitions } = readManifest(binFolder)
    const changes = Object.entries(plugins).map(([type, digests]) => takeAway(type, binFolder, digests))
    const files = Object.entries(definitions).map(([path, digests]): Change => {
      if (!digests.includes(digestOf(path) ?? '')) return { path, status: 'kept' }
      rmSync(path)
      return { path, status: 'removed' }
    })
    rmSync(own, { recursive: true })
    return [...changes, ...files]
  })
}

interface Putting extends Installation {
  readonly former: Manifest
  readonly foreign: boolean
}

/** Each is a file of its own, alike as they may be: who writes another program over one of them must not change them all. */
function put(type: string, { binFolder, programs, former, foreign }: Putting): Change {
  const path = join(binFolder, type)
  const source = join(programs, type)
  const fresh = join(binFolder, '.tsnet', `${type}.new`)
  const status = foreign ? 'replaced' : former.plugins[type] === undefined && !exists(path) ? 'installed' : 'updated'
  rmSync(fresh, { force: true })
  copyFileSync(source, fresh)
  sync(fresh)
  if (foreign) {
    const kept = join(binFolder, '.tsnet', 'kept', type)
    rmSync(kept, { force: true })
    linkSync(path, kept)
  }
  renameSync(fresh, path)
  return { path, status }
}

function takeAway(type: string, binFolder: string, digests: readonly string[]): Change {
  const path = join(binFolder, type)
  const kept = join(binFolder, '.tsnet', 'kept', type)
  if (exists(path) && !digests.includes(digestOf(path) ?? '')) return { path, status: 'kept' }
  if (exists(kept)) {
    renameSync(kept, path)
    return { path, status: 'restored' }
  }
  rmSync(path, { force: true })
  return { path, status: 'removed' }
}

function isForeign(type: string, { binFolder, programs }: Installation, { plugins }: Manifest): boolean {
  const path = join(binFolder, type)
  const digests = [digestOf(join(programs, type)), ...(plugins[type] ?? [])]
  return exists(path) && !digests.includes(digestOf(path))
}

function refuseForeign(types: readonly string[], { binFolder, force }: Installation): void {
  if (types.length === 0 || force) return
  throw new TsnetError(
    'TSNET_FOREIGN_PROGRAM',
    `Cannot install ${types.join(', ')}: ${quote(binFolder)} has ${types.length === 1 ? 'a program of that name' : 'programs of these names'} that tsnet has not put there`,
    { cniCode: 4, hint: '--force replaces it, and tsnet uninstall puts it back; or name others with --as' },
  )
}

function readManifest(binFolder: string): Manifest {
  const path = join(binFolder, '.tsnet', 'installed.json')
  if (!exists(path)) return EMPTY
  const json: unknown = JSON.parse(readFileSync(path, 'utf8'))
  const digests = (key: string): Digests => {
    const member = isObject(json) ? json[key] : undefined
    const entries = Object.entries(isObject(member) ? member : {}).filter((entry): entry is [string, string[]] => Array.isArray(entry[1]))
    return Object.fromEntries(entries)
  }
  return { plugins: digests('plugins'), definitions: digests('definitions') }
}

function writeManifest(binFolder: string, manifest: Manifest): void {
  writeWhole(join(binFolder, '.tsnet', 'installed.json'), `${JSON.stringify({ format: 1, ...manifest } satisfies JsonObject, undefined, 1)}\n`)
}

function union(a: Digests, b: Digests): Digests {
  const keys = [...new Set([...Object.keys(a), ...Object.keys(b)])]
  return Object.fromEntries(keys.map((key) => [key, [...new Set([...(a[key] ?? []), ...(b[key] ?? [])])]]))
}

/** Others read it too: runtimes that are not root's. */
function writeWhole(path: string, text: string): void {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(`${path}.new`, text, { mode: 0o644 })
  sync(`${path}.new`)
  renameSync(`${path}.new`, path)
}

function link(target: string, path: string): void {
  rmSync(`${path}.new`, { force: true })
  symlinkSync(target, `${path}.new`)
  renameSync(`${path}.new`, path)
}

/** A power failure must not leave an empty program under a name that had one. */
function sync(path: string): void {
  const fd = openSync(path, 'r')
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

/** @returns undefined where there is no file that can be read. */
function digestOf(path: string): string | undefined {
  try {
    return digest(readFileSync(path))
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'EISDIR', 'ELOOP')) return undefined
    throw error
  }
}

function digest(data: string | Buffer): string {
  return createHash('sha256').update(data).digest('hex')
}

/** Not recursive: then node would not say why it cannot. */
function ensureFolder(path: string): void {
  try {
    mkdirSync(path)
  } catch (error) {
    if (!isErrno(error, 'EEXIST')) throw error
  }
}

/** Also a link that leads nowhere. */
function exists(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined
}

function guarded<T>(what: string, folder: string, act: () => T): T {
  try {
    return act()
  } catch (cause) {
    if (cause instanceof TsnetError && cause.code !== 'TSNET_LOCK') throw cause
    const denied = isErrno(cause instanceof TsnetError ? cause.cause : cause, 'EACCES', 'EPERM', 'EROFS')
    throw new TsnetError('TSNET_INSTALL', `Cannot ${what} ${quote(folder)}`, {
      cniCode: CNI_CODE.io,
      ...(denied && { hint: 'Run it as root, or name another folder with --bin-dir' }),
      cause,
    })
  }
}
