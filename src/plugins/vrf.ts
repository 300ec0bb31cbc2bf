/** Type `vrf`: puts the interface that a plugin before it in the chain has made into a virtual router of the container's. */
import { AttachmentBook } from '../chained/attachment-book.ts'
import { findContainerNetns, openContainerNetns, openRememberedNetns } from '../chained/container-netns.ts'
import { collectStale } from '../chained/garbage.ts'
import { requirePreviousResult } from '../chained/previous-result.ts'
import { createVrf, deleteEmptyVrf, enslave, findVrf, release, tableOf } from '../chained/vrf-device.ts'
import { invalidField, optionalInteger, optionalString } from '../cni/json.ts'
import { checkIfname, type RawConfig } from '../cni/request.ts'
import { parseValidAttachments } from '../cni/valid-attachments.ts'
import { CNI_CODE, TsnetError } from '../error.ts'
import { findLink, openRtnetlink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import type { PlanContext } from '../plan/attach.ts'
import type { Owner } from '../plan/owner.ts'
import { UndoStack } from '../plan/undo.ts'
import { within } from '../sys/netns.ts'
import { refuseProblems } from './check-failure.ts'
import { ownerOf, type Plugin, type PluginRequest } from './plugin.ts'

interface VrfConfig {
  readonly name: string
  /** Absent: the first that no router of the container has. */
  readonly table?: number
}

interface Remembered {
  readonly vrf: string
}

const LARGEST_TABLE = 0xffffffff

export const vrf: Plugin = {
  add: (request) => {
    const { environment, config, context } = request
    const { name, table } = parseVrfConfig(config)
    const previous = requirePreviousResult(config)
    const owner = ownerOf(request)
    using netns = openContainerNetns(environment, context)
    using rt = within(netns, openRtnetlink)
    using undo = new UndoStack(context.warn)
    undo.push('remembered VRF', bookOf(context).restorer(owner))
    bookOf(context).write(owner, netns, { vrf: name })
    const known = findVrf(rt, name)
    if (known !== undefined && table !== undefined && tableOf(known) !== table) {
      throw new TsnetError('TSNET_CONFIG', `VRF "${name}" exists already with another routing table, ${tableOf(known)}`, {
        cniCode: CNI_CODE.invalidConfig,
      })
    }
    const router = known ?? createVrf(rt, name, table)
    undo.push(`VRF "${name}"`, () => {
      release(rt, environment.ifname, router)
      if (known === undefined) deleteEmptyVrf(rt, router)
    })
    enslave(rt, netns, { name: environment.ifname, vrf: router })
    undo.commit()
    return previous
  },
  del: (request) => remove(ownerOf(request), request.context, request),
  check: (request) => {
    const { environment, config, context } = request
    const { name, table } = parseVrfConfig(config)
    requirePreviousResult(config)
    using netns = openContainerNetns(environment, context)
    using rt = within(netns, openRtnetlink)
    refuseProblems('The VRF is not as configured', problemsOf(rt, environment.ifname, { name, table }))
  },
  gc: ({ config, context }) => {
    const valid = parseValidAttachments(config.raw)
    if (valid !== undefined) collectStale(bookOf(context), { network: config.name, valid, takeBack: (owner) => remove(owner, context) })
  },
  status: ({ config }) => void parseVrfConfig(config),
}

function bookOf({ state }: PlanContext): AttachmentBook<Remembered> {
  return new AttachmentBook(state, 'vrf')
}

/** The router goes with its last member. @param request That of DEL; GC knows of nothing but what is remembered */
function remove(owner: Owner, context: PlanContext, request?: PluginRequest): void {
  const entry = bookOf(context).read(owner)
  const name = entry?.data.vrf ?? (request && configuredName(request.config))
  using netns = request === undefined ? entry && openRememberedNetns(entry) : findContainerNetns(request.environment, context, entry)
  if (netns !== undefined && name !== undefined) {
    using rt = within(netns, openRtnetlink)
    const router = findLink(rt, name)
    if (router?.linkinfo?.kind === 'vrf') {
      release(rt, owner.ifname, router)
      deleteEmptyVrf(rt, router)
    }
  }
  bookOf(context).remove(owner)
}

/** @throws TsnetError CNI code 7 for a bad value */
function parseVrfConfig({ raw }: RawConfig): VrfConfig {
  const name = optionalString(raw, 'vrfname') ?? ''
  try {
    checkIfname(name)
  } catch (error) {
    throw error instanceof TsnetError ? invalidField('vrfname', name, 'the name of an interface') : error
  }
  const table = optionalInteger(raw, 'table', { min: 0, max: LARGEST_TABLE }) || undefined
  return { name, ...(table !== undefined && { table }) }
}

/** For DEL, which does without what cannot be read. */
function configuredName(config: RawConfig): string | undefined {
  try {
    return parseVrfConfig(config).name
  } catch (error) {
    if (error instanceof TsnetError) return undefined
    throw error
  }
}

function problemsOf(
  rt: NetlinkSocket,
  ifname: string,
  { name, table }: { readonly name: string; readonly table: number | undefined },
): readonly string[] {
  const router = findVrf(rt, name)
  if (router === undefined) return [`the VRF "${name}" is missing`]
  return [
    ...(table !== undefined && tableOf(router) !== table ? [`the VRF "${name}" has the routing table ${tableOf(router)}, not ${table}`] : []),
    ...(findLink(rt, ifname)?.master !== router.index ? [`"${ifname}" is no member of the VRF "${name}"`] : []),
  ]
}
