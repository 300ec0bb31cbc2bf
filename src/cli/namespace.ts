/** What a person calls a network namespace: a name under /run/netns, a path, or a process id. */
import { existsSync, readdirSync } from 'node:fs'
import { basename, join, resolve } from 'node:path'
import { quote } from '../cni/json.ts'
import { isErrno, type TsnetError } from '../error.ts'
import { netnsInode, openNetns } from '../sys/netns.ts'
import { usageError } from './usage-error.ts'

/** The first is where `ip netns add` puts them; the second is another folder only on odd machines. */
const FOLDERS = ['/run/netns', '/var/run/netns']
const MOST_NAMES = 10

export interface Namespace {
  readonly kind: 'name' | 'path' | 'process'
  /** As typed, without `pid:`. */
  readonly name: string
  /** Absolute. */
  readonly path: string
  readonly inode: number
}

/** What a text can mean, whether or not there is such a namespace. */
export interface NamespaceWish {
  readonly kind: Namespace['kind']
  readonly name: string
  /** In the order in which they are tried. */
  readonly paths: readonly string[]
}

/**
 * @param cwd What a relative path starts from.
 * @returns All that the text can mean: digits alone can be a process and a name.
 * @throws TsnetError TSNET_USAGE for a text that can mean nothing
 */
export function parseNamespace(text: string, cwd: string): readonly NamespaceWish[] {
  const process = /^(?:pid:)?(\d+)$/.exec(text)?.[1]
  if (text.startsWith('pid:') && !/^[1-9]\d{0,9}$/.test(process ?? '')) {
    throw usageError(`Cannot use ${quote(text)} as a namespace: ${quote(text.slice(4))} is no process id`, 'Write pid:3452')
  }
  if (text === '' || text === '.' || text === '..' || text.includes('\0')) {
    throw usageError(`Cannot use ${quote(text)} as a namespace: it is no name`, `Give a name under ${FOLDERS[0]}, a path, or a process id`)
  }
  if (text.includes('/')) return [{ kind: 'path', name: text, paths: [resolve(cwd, text)] }]
  const named = { kind: 'name', name: text, paths: FOLDERS.map((folder) => join(folder, text)) } as const
  const running = { kind: 'process', name: process ?? '', paths: [`/proc/${process}/ns/net`] } as const
  if (process === undefined) return [named]
  return text.startsWith('pid:') ? [running] : [named, running]
}

/**
 * @returns The namespace that the text names.
 * @throws TsnetError TSNET_USAGE when there is none, or when digits name both a namespace and a process; TSNET_NETNS for a file that is none
 */
export function resolveNamespace(text: string, cwd: string): Namespace {
  const found = existing(text, cwd)
  if (found === undefined) throw notFound(text, parseNamespace(text, cwd))
  using netns = openNetns(found.path)
  return { ...found, inode: netns.inode }
}

/** @returns The namespace, or undefined when there is none (any more). @throws TsnetError TSNET_USAGE for a text that names two, or cannot name any */
export function findNamespace(text: string, cwd: string): Namespace | undefined {
  const found = existing(text, cwd)
  const inode = found && netnsInode(found.path)
  return found === undefined || inode === undefined ? undefined : { ...found, inode }
}

/** @returns The names under /run/netns, in order. */
export function namespaceNames(): readonly string[] {
  return [...new Set(FOLDERS.flatMap(namesIn))].sort()
}

/** @returns How a person would call the namespace at this path. */
export function shortNamespace(path: string): string {
  const folder = FOLDERS.find((candidate) => path === join(candidate, basename(path)))
  const process = /^\/proc\/(\d+)\/ns\/net$/.exec(path)?.[1]
  return process !== undefined ? `pid:${process}` : folder !== undefined ? basename(path) : path
}

function existing(text: string, cwd: string): Omit<Namespace, 'inode'> | undefined {
  const [first, second] = parseNamespace(text, cwd).flatMap(({ kind, name, paths }) => {
    const path = paths.find((candidate) => existsSync(candidate))
    return path === undefined ? [] : [{ kind, name, path }]
  })
  if (first !== undefined && second !== undefined) {
    throw usageError(`Cannot use ${quote(text)} as a namespace: a namespace has that name and a process that id`, `Say ${first.path} or pid:${text}`)
  }
  return first
}

function notFound(text: string, wishes: readonly NamespaceWish[]): TsnetError {
  const [wish] = wishes
  if (wish?.kind === 'path') return usageError(`Cannot find a network namespace at ${quote(wish.paths[0])}: there is no such file`, namesHint())
  if (wish?.kind === 'process')
    return usageError(`Cannot find the process ${wish.name}: it does not run`, 'Give the id of a process that runs in the namespace')
  const orProcess = wishes.length > 1 ? ', and no process of that id runs' : ''
  return usageError(`Cannot find the network namespace ${quote(text)}: ${FOLDERS[0]} has no such name${orProcess}`, namesHint(text))
}

function namesHint(text?: string): string {
  const names = namespaceNames()
  if (names.length === 0)
    return `No namespace has a name yet; "ip netns add ${text !== undefined && /^[\w.-]+$/.test(text) ? text : 'web'}" makes one`
  const more = names.length > MOST_NAMES ? ` and ${names.length - MOST_NAMES} more` : ''
  return `These exist: ${names.slice(0, MOST_NAMES).join(', ')}${more}`
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder)
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'EACCES')) return []
    throw error
  }
}
