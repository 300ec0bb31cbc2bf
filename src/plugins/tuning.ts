/** Type `tuning`: kernel parameters and settings of the interface that a plugin before it in the chain has made. */

import { applyLinkSettings, type LinkSettings, readLinkSettings } from '../bridge/link-settings.ts'
import { AttachmentBook } from '../chained/attachment-book.ts'
import { findContainerNetns, openContainerNetns } from '../chained/container-netns.ts'
import { collectStale } from '../chained/garbage.ts'
import { requirePreviousResult } from '../chained/previous-result.ts'
import { backupPath, readBackup, removeBackup, writeBackup } from '../chained/tuning-backup.ts'
import type { RawConfig } from '../cni/request.ts'
import type { Result, ResultInterface } from '../cni/result.ts'
import { parseValidAttachments } from '../cni/valid-attachments.ts'
import { CNI_CODE, describe, TsnetError } from '../error.ts'
import { findLink, openRtnetlink } from '../netlink/rtnetlink.ts'
import type { NetlinkSocket } from '../netlink/socket.ts'
import type { PlanContext } from '../plan/attach.ts'
import type { Owner } from '../plan/owner.ts'
import { UndoStack } from '../plan/undo.ts'
import { type Netns, within } from '../sys/netns.ts'
import { readSysctl, writeSysctl } from '../sys/sysctl.ts'
import { refuseProblems } from './check-failure.ts'
import { ownerOf, type Plugin } from './plugin.ts'
import { parseTuningConfig, type TuningConfig, tuningFolder } from './tuning-config.ts'

interface Remembered {
  readonly dataDir: string
}

export const tuning: Plugin = {
  add: (request) => {
    const { context, environment, config } = request
    const wanted = parseTuningConfig(request)
    const previous = requirePreviousResult(config)
    const owner = ownerOf(request)
    using netns = openContainerNetns(environment, context)
    using undo = new UndoStack(context.warn)
    setSysctls(wanted.sysctls, netns, undo)
    if (Object.keys(wanted.link).length > 0) tune(owner, { wanted, netns, undo, context })
    undo.commit()
    return withSettings(previous, environment.ifname, wanted.link)
  },
  del: (request) => {
    const { environment, config, context } = request
    const owner = ownerOf(request)
    const entry = bookOf(context).read(owner)
    const before = readBackup(backupOf(owner, config, context))
    using netns = before && findContainerNetns(environment, context, entry)
    if (netns !== undefined && before !== undefined) restore(netns, { ifname: environment.ifname, before, context })
    forget(owner, config, context)
  },
  check: (request) => {
    const wanted = parseTuningConfig(request)
    requirePreviousResult(request.config)
    using netns = openContainerNetns(request.environment, request.context)
    const problems = within(netns, () => differences(request.environment.ifname, wanted))
    refuseProblems(`The interface "${request.environment.ifname}" is not tuned as configured`, problems)
  },
  gc: ({ config, context }) => {
    const valid = parseValidAttachments(config.raw)
    if (valid !== undefined) collectStale(bookOf(context), { network: config.name, valid, takeBack: (owner) => forget(owner, config, context) })
  },
  status: () => {},
}

function bookOf({ state }: PlanContext): AttachmentBook<Remembered> {
  return new AttachmentBook(state, 'tuning')
}

function backupOf(owner: Owner, { raw }: RawConfig, context: PlanContext): string {
  return backupPath(bookOf(context).read(owner)?.data.dataDir ?? tuningFolder(raw), owner)
}

function forget(owner: Owner, config: RawConfig, context: PlanContext): void {
  removeBackup(backupOf(owner, config, context))
  bookOf(context).remove(owner)
}

/** DEL does not set them back: they go with the namespace. */
function setSysctls(sysctls: TuningConfig['sysctls'], netns: Netns, undo: UndoStack): void {
  within(netns, () => {
    for (const { key, value } of sysctls) {
      const former = readSysctl(key)
      if (former === undefined)
        throw new TsnetError('TSNET_CONFIG', `Cannot set the sysctl "${key}": the kernel has none of that name`, { cniCode: CNI_CODE.invalidConfig })
      if (former === value) continue
      undo.push(`sysctl ${key}`, () => within(netns, () => writeSysctl(key, former)))
      writeSysctl(key, value)
    }
  })
}

interface Tuning {
  readonly wanted: TuningConfig
  readonly netns: Netns
  readonly undo: UndoStack
  readonly context: PlanContext
}

/** What it was is written down before the first change. */
function tune(owner: Owner, { wanted, netns, undo, context }: Tuning): void {
  using rt = within(netns, openRtnetlink)
  const link = findLink(rt, owner.ifname)
  if (link === undefined) {
    throw new TsnetError('TSNET_LINK', `Cannot tune "${owner.ifname}": the namespace has no such interface`, {
      hint: 'Put tuning behind the plugin that makes the interface',
    })
  }
  const before = readLinkSettings(link, wanted.link)
  const path = backupPath(wanted.dataDir, owner)
  const known = readBackup(path)
  undo.push('backup of the settings', () => (known === undefined ? removeBackup(path) : writeBackup(path, known)))
  undo.push('remembered settings', bookOf(context).restorer(owner))
  bookOf(context).write(owner, netns, { dataDir: wanted.dataDir })
  writeBackup(path, before)
  undo.push(`settings of "${owner.ifname}"`, () => {
    using socket = within(netns, openRtnetlink)
    applyLinkSettings(socket, owner.ifname, before)
  })
  applyLinkSettings(rt, owner.ifname, wanted.link)
}

/** The interface may be gone, or be another by now: that keeps nothing from being deleted. */
function restore(
  netns: Netns,
  { ifname, before, context }: { readonly ifname: string; readonly before: LinkSettings; readonly context: PlanContext },
): void {
  using rt = within(netns, openRtnetlink)
  if (findLink(rt, ifname) === undefined) return
  try {
    applyLinkSettings(rt, ifname, before)
  } catch (error) {
    context.warn(`Cannot set "${ifname}" back to what it was: ${describe(error)}`)
  }
}

/** Runs inside the container's namespace. */
function differences(ifname: string, wanted: TuningConfig): readonly string[] {
  using rt = openRtnetlink()
  return [...sysctlDifferences(wanted.sysctls), ...linkDifferences(rt, ifname, wanted.link)]
}

function sysctlDifferences(sysctls: TuningConfig['sysctls']): readonly string[] {
  return sysctls.flatMap(({ key, value }) => {
    const present = readSysctl(key)
    return words(present) === words(value) ? [] : [`${key} is ${present ?? 'missing'}, not ${value}`]
  })
}

/** The kernel writes several numbers with tabs between them. */
function words(text: string | undefined): string | undefined {
  return text?.trim().replace(/\s+/g, ' ')
}

function linkDifferences(rt: NetlinkSocket, ifname: string, wanted: LinkSettings): readonly string[] {
  const link = findLink(rt, ifname)
  if (link === undefined) return Object.keys(wanted).length === 0 ? [] : ['it does not exist']
  const present: Readonly<Record<string, unknown>> = { ...readLinkSettings(link, wanted) }
  return Object.entries(wanted).flatMap(([name, value]) => (present[name] === value ? [] : [`${name} is ${present[name]}, not ${value}`]))
}

/** The MTU only where a plugin before has told it: the reference's have no word for it. */
function withSettings(result: Result, ifname: string, { mac, mtu }: LinkSettings): Result {
  const tuned = (link: ResultInterface) => ({
    ...link,
    ...(mac !== undefined && { mac }),
    ...(mtu !== undefined && link.mtu !== undefined && { mtu }),
  })
  return { ...result, interfaces: result.interfaces.map((link) => (link.name === ifname && link.sandbox ? tuned(link) : link)) }
}
