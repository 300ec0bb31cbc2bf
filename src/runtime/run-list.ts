/** A network's plugins one after the other, as libcni runs them; but a failed ADD is taken back, and DEL goes on after errors. */
import { parseConflist } from '../cni/conflist.ts'
import { type JsonObject, quote } from '../cni/json.ts'
import type { ValidAttachment } from '../cni/valid-attachments.ts'
import { isAtLeast } from '../cni/version.ts'
import { CNI_CODE, describe, TsnetError } from '../error.ts'
import { findLink, openRtnetlink } from '../netlink/rtnetlink.ts'
import { Attempts } from '../plan/detach.ts'
import type { Owner } from '../plan/owner.ts'
import { UndoStack } from '../plan/undo.ts'
import { netnsInode, openNetns, within } from '../sys/netns.ts'
import { completeList, type Definition } from './definition-folder.ts'
import { requirePlugin, type Surroundings } from './execute.ts'
import { type CachedAttachment, listCached, readCached, removeCached, writeCached } from './result-cache.ts'
import { convert, execute, type Run, type RuntimeCall, typeOf } from './verb.ts'

export interface Runtime extends Surroundings {
  /** Where results are remembered. */
  readonly cacheFolder: string
  /** Where a list looks for further plugins. */
  readonly definitionFolder: string
}

type Definitions = Pick<Definition, 'list' | 'text'>

/**
 * @returns The result of the last plugin, in the list's version.
 * @throws TsnetError of the plugin that failed; then it and those before it have been told to delete
 */
export function addNetwork({ list, text }: Definitions, call: RuntimeCall, runtime: Runtime): JsonObject {
  const owner: Owner = { network: list.name, containerID: call.containerID, ifname: call.ifname }
  refuseCached(owner, runtime)
  const types = list.plugins.map(typeOf)
  // Before anything is done: a plugin that is not there cannot take anything back either.
  for (const type of types) requirePlugin(type, runtime)
  const run: Run = { ...call, list, args: call.args ?? [], capabilityArgs: call.capabilityArgs ?? {} }
  const taken = hasInterface(call)
  using undo = new UndoStack((problem) => runtime.complain(`tsnet: ${problem}\n`))
  let result: JsonObject | undefined
  for (const [i, plugin] of list.plugins.entries()) {
    const takeBack = () => undo.push(`plugin ${quote(types[i])}`, () => execute('DEL', plugin, { ...run, prevResult: result }, runtime))
    // The reference plugins delete the interface by its name: one that was there before is not theirs to delete.
    if (i > 0 || !taken) takeBack()
    const printed = execute('ADD', plugin, { ...run, prevResult: result }, runtime)
    if (i === 0 && taken) takeBack()
    result = convert(printed, list.cniVersion)
  }
  const { netns, args, capabilityArgs } = run
  writeCached(runtime.cacheFolder, { ...owner, netns, config: text, args, capabilityArgs, result: result ?? {} })
  undo.commit()
  return result ?? {}
}

/**
 * @param definition Counts where the cache does not know with which list ADD was run.
 * @returns Whether the plugins were asked: a list can say that they must not be.
 * @throws TsnetError of the first plugin that finds something wrong; TSNET_CACHE without the result of an ADD
 */
export function checkNetwork(definition: Definitions, call: RuntimeCall, runtime: Runtime): boolean {
  const { list } = definition
  const cached = readCached(runtime.cacheFolder, { ...call, network: list.name })
  const run = recall(definition, call, { cached, runtime })
  if (!isAtLeast(run.list.cniVersion, '0.4.0')) {
    throw new TsnetError('TSNET_VERSION', `Cannot check network ${quote(list.name)}: its cniVersion ${run.list.cniVersion} has no CHECK`, {
      cniCode: CNI_CODE.incompatibleVersion,
      hint: 'CHECK came with 0.4.0',
    })
  }
  if (run.list.disableCheck) return false
  if (cached === undefined) {
    throw new TsnetError(
      'TSNET_CACHE',
      `Cannot check ${quote(call.containerID)} in network ${quote(list.name)}: ${quote(runtime.cacheFolder)} has no result of its ADD`,
      {
        cniCode: CNI_CODE.unknownContainer,
        hint: 'Is it attached, by this command or by a runtime? tsnet check asks for what tsnet itself has attached',
      },
    )
  }
  const prevResult = convert(cached.result, run.list.cniVersion)
  for (const plugin of run.list.plugins) execute('CHECK', plugin, { ...run, prevResult }, runtime)
  return true
}

/**
 * @param definition Counts where the cache does not know with which list ADD was run; absent when the network is defined no more.
 * @throws TsnetError with all that failed; then what ADD has left stays remembered
 */
export function deleteNetwork(
  network: string,
  call: RuntimeCall,
  { definition, runtime }: { definition: Definitions | undefined; runtime: Runtime },
): void {
  const owner: Owner = { ...call, network }
  const cached = tolerant(runtime, () => readCached(runtime.cacheFolder, owner))
  const run = recall(definition, call, { cached, runtime, network })
  const prevResult = tolerant(runtime, () => cached && convert(cached.result, run.list.cniVersion))
  const errors = new Attempts()
  for (const plugin of [...run.list.plugins].reverse()) errors.try(() => execute('DEL', plugin, { ...run, prevResult }, runtime))
  errors.finish(`Cannot delete all of ${quote(call.containerID)} in network ${quote(network)}`)
  removeCached(runtime.cacheFolder, owner)
}

/**
 * Deletes what is remembered and no longer valid, then tells each plugin what stays.
 * @param isValid Whether an attachment that the cache knows stays.
 * @param others Further attachments that stay.
 * @returns What was deleted from the cache; undefined when the list forbids it.
 * @throws ErrorList with all that failed, after all else was done
 */
export function collectNetwork(
  { list, text }: Definitions,
  { isValid, others }: { isValid: (cached: CachedAttachment) => boolean; others: readonly ValidAttachment[] },
  runtime: Runtime,
): readonly Owner[] | undefined {
  if (list.disableGC) return undefined
  const cached = listCached(runtime.cacheFolder, list.name, (problem) => runtime.complain(`tsnet: ${problem}\n`))
  const stale = cached.filter((attachment) => !isValid(attachment))
  const errors = new Attempts()
  const definition = { list, text }
  const deleted = stale.filter((attachment) => {
    const { containerID, ifname, netns = '' } = attachment
    const call = { containerID, ifname, netns: netnsInode(netns) === undefined ? '' : netns }
    return errors.try(() => {
      deleteNetwork(list.name, call, { definition, runtime })
      return true
    })
  })
  if (isAtLeast(list.cniVersion, '1.1.0')) {
    const kept = cached.filter((attachment) => !stale.includes(attachment)).map(({ containerID, ifname }) => ({ containerID, ifname }))
    const valid = [
      ...kept,
      ...others.filter((other) => !kept.some(({ containerID, ifname }) => containerID === other.containerID && ifname === other.ifname)),
    ]
    for (const plugin of list.plugins) errors.try(() => execute('GC', plugin, { list, valid }, runtime))
  }
  errors.finish(`Cannot collect all garbage of network ${quote(list.name)}`)
  return deleted
}

/**
 * @returns Whether the plugins were asked: those of a list before 1.1.0 cannot be.
 * @throws TsnetError of the first plugin that is not ready
 */
export function askStatus({ list }: Definitions, runtime: Runtime): boolean {
  if (!isAtLeast(list.cniVersion, '1.1.0')) return false
  for (const plugin of list.plugins) execute('STATUS', plugin, { list }, runtime)
  return true
}

interface Memory {
  readonly cached: CachedAttachment | undefined
  readonly runtime: Runtime
  readonly network?: string
}

/** Somebody may have changed the definition since ADD: what ADD was run with is what there is to check and to delete. */
function recall(definition: Definitions | undefined, call: RuntimeCall, { cached, runtime, network }: Memory): Run {
  const config = cached?.config
  const remembered = config === undefined ? undefined : tolerant(runtime, () => parseConflist(completeList(config, runtime.definitionFolder)))
  const list = remembered ?? definition?.list
  if (list === undefined) {
    throw new TsnetError('TSNET_NO_NETWORK', `Cannot delete from network ${quote(network)}: it is not defined, and no ADD of it is remembered`, {
      cniCode: 4,
      hint: `NETCONFPATH says where definitions lie; it is ${runtime.definitionFolder}`,
    })
  }
  return { ...call, list, args: call.args ?? cached?.args ?? [], capabilityArgs: call.capabilityArgs ?? cached?.capabilityArgs ?? {} }
}

function hasInterface({ netns, ifname }: RuntimeCall): boolean {
  using container = openNetns(netns)
  using rt = within(container, openRtnetlink)
  return findLink(rt, ifname) !== undefined
}

/** A second ADD would fail, and taking it back would delete what the first has made. */
function refuseCached(owner: Owner, { cacheFolder }: Runtime): void {
  if (readCached(cacheFolder, owner) === undefined) return
  throw new TsnetError(
    'TSNET_INTERFACE_TAKEN',
    `Cannot add ${quote(owner.containerID)} to network ${quote(owner.network)}: it is in it already, as ${quote(owner.ifname)}`,
    {
      cniCode: CNI_CODE.interfaceTaken,
      hint: 'tsnet cni del takes it out',
    },
  )
}

/** What is remembered helps, but nothing must fail for the want of it. */
function tolerant<T>({ complain }: Runtime, read: () => T): T | undefined {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof TsnetError)) throw error
    complain(`tsnet: ${describe(error)}\n`)
    return undefined
  }
}
