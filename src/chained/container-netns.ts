/** The container's namespace, as the plugins of a chain find it. */
import type { Environment } from '../cni/request.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { type PlanContext, refuseOwnNetns } from '../plan/attach.ts'
import { bootId } from '../sys/boot.ts'
import { type Netns, netnsInode, openNetns } from '../sys/netns.ts'
import type { BookEntry } from './attachment-book.ts'

/** What an attachment's book says of the namespace. */
type Remembered = Pick<BookEntry<unknown>, 'netns' | 'bootId'>

/**
 * Opens the namespace that CNI_NETNS names. The caller owns it.
 * @throws TsnetError CNI code 8 when there is none, or when it is the one that this process is in and CNI_NETNS_OVERRIDE does not allow that
 */
export function openContainerNetns({ netns: path, netnsOverride }: Environment, context: PlanContext): Netns {
  return guarded(context.openNetns(path), netnsOverride)
}

/**
 * Opens the namespace for what takes back: the one that ADD has remembered, also when CNI_NETNS has come to name another one meanwhile, as
 * /proc/PID/ns/net does for another process; where nothing is remembered, the one that CNI_NETNS names. The caller owns it.
 * @returns undefined when it is gone, and everything inside with it
 * @throws TsnetError CNI code 8 when CNI_NETNS names the one that this process is in
 */
export function findContainerNetns(environment: Environment, context: PlanContext, remembered?: Remembered): Netns | undefined {
  const opened = environment.netns === '' ? undefined : unlessGone(() => context.openNetns(environment.netns))
  const named = opened && guarded(opened, environment.netnsOverride)
  if (named !== undefined && (remembered === undefined || isSame(named, remembered))) return named
  named?.[Symbol.dispose]()
  return remembered && openRememberedNetns(remembered)
}

/** Inodes are used again: the path has to lead there too. The caller owns it. @returns undefined when the namespace is gone */
export function openRememberedNetns({ netns, bootId: boot }: Remembered): Netns | undefined {
  return boot === bootId() && netnsInode(netns.path) === netns.inode ? unlessGone(() => openNetns(netns.path)) : undefined
}

function isSame({ inode }: Netns, { netns, bootId: boot }: Remembered): boolean {
  return boot === bootId() && inode === netns.inode
}

function guarded(netns: Netns, ownAllowed: boolean): Netns {
  try {
    refuseOwnNetns(netns, ownAllowed)
    return netns
  } catch (error) {
    netns[Symbol.dispose]()
    throw error
  }
}

function unlessGone(open: () => Netns): Netns | undefined {
  try {
    return open()
  } catch (error) {
    if (error instanceof TsnetError && error.cniCode === CNI_CODE.invalidNetns) return undefined
    throw error
  }
}
