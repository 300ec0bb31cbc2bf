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
    using store = open(folder, request.context)
    const leases = reserveAddresses(store, { holder: holderOf(request), purpose, sets, requested })
    const ips = leases.map(({ address, prefixLength, gateway }) => ({
      address: formatPrefix({ address, prefixLength }),
      gateway: formatAddress(gateway),
    }))
    return { interfaces: [], ips, routes, dns }
  },
  del: (request) => {
    const folder = folderOf(request)
    if (!isThere(folder)) return
    using store = open(folder, request.context)
    const held = store.heldBy(holderOf(request))
    const own = held.filter(({ ifname }) => ifname !== undefined)
    store.release(own.length > 0 ? own : held)
  },
  check: (request) => {
    const { folder, sets } = parseHostLocalConfig(request)
    using store = isThere(folder) ? open(folder, request.context) : undefined
    const { containerID } = request.environment
    const held = store?.heldBy(holderOf(request)) ?? []
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
    using store = open(folder, request.context)
    store.release(store.all().filter((entry) => !stays(entry)))
  },
  status: (request) => {
    const { folder, sets } = parseHostLocalConfig(request)
    refuseUnwritable(folder)
    if (!isThere(folder)) return
    using store = open(folder, request.context)
    const full = () => sets.find((set) => store.isFull(set))
    const set = full() && store.releaseVanished().length > 0 ? full() : full()
    if (set !== undefined) throw notAvailable('TSNET_POOL_FULL', `no IP addresses available in range set: ${formatHostLocalSet(set)}`)
  },
}

function open(folder: NetworkFolder, { state }: PlanContext): ReservationStore {
  const store = ReservationStore.open(folder, state.patience?.lockTimeoutMs ?? LOCK_TIMEOUT_MS)
  if (state.patience?.isWanted() ?? true) return store
  store[Symbol.dispose]()
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
