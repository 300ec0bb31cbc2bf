/** Type `host-local`: addresses out of files of this host, side by side with the reference plugin, in its own folder and form. */
import { accessSync, constants, existsSync, statfsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parseResult, type Result } from '../cni/result.ts'
import { parseValidAttachments } from '../cni/valid-attachments.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import type { IndexEntry } from '../ipam/host-local/holder-index.ts'
import { formatHostLocalSet } from '../ipam/host-local/range-sets.ts'
import { type NetworkFolder, ReservationStore } from '../ipam/host-local/reservation-store.ts'
import { reserveAddresses } from '../ipam/host-local/reserve.ts'
import { type RangeSet, rangeWith } from '../ipam/range.ts'
import type { PlanContext } from '../plan/attach.ts'
import { identifyNetns } from '../sys/netns-identity.ts'
import { formatAddress, formatPrefix, type IpAddress, parsePrefix } from '../wire/ip-address.ts'
import { folderOf, parseHostLocalConfig, readDns } from './host-local-config.ts'
import type { Plugin, PluginRequest } from './plugin.ts'

/** The reference plugin holds the lock for the length of one file's making. */
const LOCK_TIMEOUT_MS = 30_000

export const hostLocal: Plugin = {
  add: (request) => {
    const { folder, sets, requested, routes } = parseHostLocalConfig(request)
    const dns = readDns(request)
    const netns = identifyNetns(request.environment.netns)
    const { request: token } = request.context
    const purpose = { ...(netns !== undefined && { netns }), ...(token !== undefined && { request: token }) }
    const leases = inStore(folder, request.context, (store) => reserveAddresses(store, { holder: holderOf(request), purpose, sets, requested }))
    const ips = leases.map(({ address, prefixLength, gateway }) => ({
      address: formatPrefix({ address, prefixLength }),
      gateway: formatAddress(gateway),
    }))
    return { interfaces: [], ips, routes, dns }
  },
  del: (request) => {
    const folder = folderOf(request)
    if (!isThere(folder)) return
    inStore(folder, request.context, (store) => {
      const held = store.heldBy(holderOf(request))
      const own = held.filter(({ ifname }) => ifname !== undefined)
      // Files of old versions name only the container, so they are all that there is or nobody knows whose.
      store.release(own.length > 0 ? own : held)
    })
  },
  check: (request) => {
    const { folder, sets } = parseHostLocalConfig(request)
    const { containerID } = request.environment
    const held = isThere(folder) ? inStore(folder, request.context, (store) => store.heldBy(holderOf(request))) : []
    if (held.length === 0) throw checkFailed(`host-local: Failed to find address added by container ${containerID}`)
    const { prevResult, cniVersion } = request.config
    if (prevResult === undefined) return
    const missing = reservable(parseResult(prevResult, cniVersion), sets).filter((text) => !held.some(({ address }) => address === text))
    if (missing.length > 0) throw checkFailed(`host-local: container ${containerID} has not reserved ${missing.join(', ')}`)
  },
  gc: (request) => {
    const valid = parseValidAttachments(request.config.raw)
    const folder = folderOf(request)
    if (valid === undefined || !isThere(folder)) return
    const stays = ({ containerID, ifname }: IndexEntry) =>
      valid.some((other) => other.containerID === containerID && (ifname === undefined || other.ifname === ifname))
    inStore(folder, request.context, (store) => store.release(store.all().filter((entry) => !stays(entry))))
  },
  status: (request) => {
    const { folder, sets } = parseHostLocalConfig(request)
    refuseUnwritable(folder)
    if (!isThere(folder)) return
    const set = inStore(folder, request.context, (store) => sets.find((candidate) => store.isFull(candidate)))
    if (set !== undefined) throw notAvailable('TSNET_POOL_FULL', `no IP addresses available in range set: ${formatHostLocalSet(set)}`)
  },
}

/** @throws TsnetError TSNET_DATA_DIR, CNI code 5, when a file cannot be read or written */
function inStore<T>(folder: NetworkFolder, { state }: PlanContext, act: (store: ReservationStore) => T): T {
  const { lockTimeoutMs = LOCK_TIMEOUT_MS, isWanted } = state.patience ?? {}
  try {
    using store = ReservationStore.open(folder, lockTimeoutMs)
    if (isWanted?.() ?? true) return act(store)
  } catch (cause) {
    if (!(cause instanceof Error && 'syscall' in cause)) throw cause
    throw new TsnetError('TSNET_DATA_DIR', `Cannot keep addresses in ${JSON.stringify(join(folder.dataDir, folder.network))}`, {
      cniCode: CNI_CODE.io,
      cause,
    })
  }
  throw new TsnetError('TSNET_ABANDONED', `Cannot go on in network "${folder.network}": nobody waits for the answer any more`, {
    cniCode: CNI_CODE.tryAgain,
  })
}

function isThere({ dataDir, network }: NetworkFolder): boolean {
  return existsSync(join(dataDir, network))
}

function holderOf({ environment }: PluginRequest) {
  return { containerID: environment.containerID, ifname: environment.ifname }
}

/** @returns The addresses of a result that come out of these sets: a chain may have added others. */
function reservable({ ips }: Result, sets: readonly RangeSet[]): readonly string[] {
  const ofSets = (address: IpAddress) => sets.some((set) => rangeWith(set, address) !== undefined)
  const addresses = ips.flatMap(({ address }) => parsePrefix(address)?.address ?? [])
  return addresses.filter(ofSets).map(formatAddress)
}

/** The folder need not be there yet: then the nearest above it counts. */
function refuseUnwritable({ dataDir, network }: NetworkFolder): void {
  let folder = join(dataDir, network)
  while (!existsSync(folder)) folder = dirname(folder)
  try {
    accessSync(folder, constants.W_OK | constants.X_OK)
  } catch (cause) {
    throw notAvailable('TSNET_DATA_DIR', `Cannot write to ${JSON.stringify(folder)}`, cause)
  }
  const { bfree, files, ffree } = statfsSync(folder)
  if (bfree === 0 || (files > 0 && ffree === 0))
    throw notAvailable('TSNET_DATA_DIR', `Cannot write to ${JSON.stringify(folder)}: the file system is full`)
}

function notAvailable(code: string, message: string, cause?: unknown): TsnetError {
  return new TsnetError(code, message, { cniCode: CNI_CODE.notAvailable, cause })
}

function checkFailed(message: string): TsnetError {
  return new TsnetError('TSNET_CHECK', message, { cniCode: CNI_CODE.checkFailed })
}
